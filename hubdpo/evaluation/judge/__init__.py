"""Let a model behind an OpenAI-compatible server compare the answers of base and adapter.

`judged.py` is the recipe; `server.py` asks, `comparison.py` words a question and reads the verdict, `ask.py` asks them
all in parallel and keeps what was said, `rates.py` controls for the length of the answers.
"""
