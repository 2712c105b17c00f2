"""Run the commands of a card in the programs that they are for, and compare the answers with those of PEFT.

    python -m tests.downstream [PROGRAM ...] [--work FOLDER] [--tiny] [--write]

A base and an adapter are released on an embedded Hub, and the commands are taken from the cards there.
"""  # fmt: skip

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.downstream.release import REAL, TINY, TOKEN, USER
from tests.downstream.report import table, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.downstream", description=__doc__)
    parser.add_argument("programs", nargs="*", help="run these alone, such as PEFT or vLLM (default: all)")
    parser.add_argument("--work", type=Path, help="folder for models and results (default: a new one)")
    parser.add_argument("--tiny", action="store_true", help="a random model in place of a real one: minutes faster")
    parser.add_argument("--write", action="store_true", help="write the result into package and docs")
    options = parser.parse_args()
    work = (options.work or Path(tempfile.mkdtemp(prefix="downstream-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"working in {work}\n")
    from hubdpo.loopback.server import LoopbackHub

    with LoopbackHub(work / "hub", tokens=[f"{USER}:{TOKEN}:write"]) as hub:
        # the Hugging Face libraries read these when they are imported
        os.environ.update(
            HF_ENDPOINT=hub.endpoint, HF_HOME=str(work / "hf-home"), HF_TOKEN=TOKEN, HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_UPDATE_CHECK="1", TOKENIZERS_PARALLELISM="false",
        )  # fmt: skip
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads wait for each other where others work
        from tests.downstream.programs import run_all

        base = TINY if options.tiny else REAL
        found = run_all(work, base, options.programs)
    sys.stdout.write(table(found.proofs, found.failed, found.effect))
    if options.write and not found.failed:
        write(found.proofs, found.model, found.effect)
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
