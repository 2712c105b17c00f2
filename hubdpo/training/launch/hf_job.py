# /// script
# requires-python = ">=3.11"
# dependencies = []
#
# [tool.hf-jobs]
# flavor = "l40sx1"
# timeout = "12h"
# secrets = ["HF_TOKEN"]
# ///
"""Train on HF Jobs and publish the adapter: `hf jobs uv run --with "hubdpo @ ADDRESS" hf_job.py OPTIONS`.

ADDRESS is that of a wheel, or `git+` and that of a repository, which the job can reach. OPTIONS are those of
`hubdpo train`, and `--push-to USER/NAME`.

A job's disk is deleted when the job ends, so only the release stays. With `-o` in a mounted volume the checkpoints stay
too, and the same command with `--resume` continues from them. A token that is missing or may only read, which would
stop the release after hours of training, stops the job at its start.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

try:
    from hubdpo import console
except ModuleNotFoundError as missing:
    if missing.name != "hubdpo":
        raise
    sys.exit('error: the job has no hubdpo\nhint: hf jobs uv run --with "hubdpo @ ADDRESS" hf_job.py ...')


def main(arguments: list[str]) -> int:
    """Run `hubdpo train` and then `hubdpo push`; return the exit code of the first that fails, else 0."""
    parser = argparse.ArgumentParser(allow_abbrev=False, epilog="All other options are those of `hubdpo train`.")
    parser.add_argument("--push-to", required=True, metavar="USER/NAME", help="repo of the adapter")
    parser.add_argument("--version", default="minor", metavar="X.Y.Z|patch|minor|major", help="default: minor")
    parser.add_argument("--private", action="store_true", help="create the repo as private")
    parser.add_argument("-o", "--output-dir", default="run", metavar="DIR", help="run folder; default: run")
    job, options = parser.parse_known_args(arguments)
    if error := _token_error():
        console.error(error)
        return 4
    publish = [job.output_dir, job.push_to, "--version", job.version, *(["--private"] if job.private else [])]
    for command in (["train", *options, "--output-dir", job.output_dir], ["push", *publish]):
        done = subprocess.run([sys.executable, "-m", "hubdpo", *command])
        if done.returncode:
            return done.returncode
    return 0


def _token_error() -> str | None:
    """Return why the Hub would refuse the release, None when the token may write."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not os.environ.get("HF_TOKEN"):
        return "the job has no HF_TOKEN; start it with `--secrets HF_TOKEN`"
    try:
        token = HfApi().whoami().get("auth", {}).get("accessToken", {})
    except HfHubHTTPError as error:
        return f"the Hub refuses HF_TOKEN: {' '.join(str(error).split())}"
    return "HF_TOKEN may only read; give the job a token that may write" if token.get("role") == "read" else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
