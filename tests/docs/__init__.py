"""Run every command of README and docs as a reader would: `python -m tests.docs docs/tutorial.md`."""
