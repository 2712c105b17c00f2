"""The table of what ran: printed, kept in the package for the statement of cards, and written into the docs."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hubdpo.cards.model import proofs
from hubdpo.cards.model.proofs import PROOFS_FILE, Proof
from hubdpo.version import __version__
from tests.downstream.environments import ROOT

FILE = Path(proofs.__file__).with_name(PROOFS_FILE)
DOCS = ROOT / "docs" / "how-to" / "serve.md"
BEGIN, END = "<!-- written by `make downstream` -->", "<!-- to here -->"
NOT_RUN = {
    "TGI": "no package of it can be installed with pip",
    "Ollama": "no package of it can be installed with pip; the GGUF file that its commands make ran in llama.cpp",
    "SGLang": "needs a GPU",
    "LoRAX": "no package of it can be installed with pip",
}
"""Programs that this cannot run, with the reason."""
HEAD = ("program", "version", "what ran", "compared with PEFT", "tokens equal", "largest difference", "tolerance")


def table(found: Sequence[Proof], failed: Sequence[str], effect: str) -> str:
    """Return the rows in aligned columns, what failed, and how far the base alone is from the adapter."""
    rows = [HEAD, *map(cells, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"not run: {program}: {reason}" for program, reason in NOT_RUN.items()]
    lines += [f"FAILED: {line}" for line in failed]
    return "\n".join(["", *lines, effect, ""])


def cells(proof: Proof) -> tuple[str, ...]:
    largest = "not reported" if proof.largest_difference is None else f"{proof.largest_difference:.2g}"
    parted = "" if proof.lead is None else f" (then two are {proof.lead:.2g} nats apart)"
    equal = f"{proof.equal} of {proof.tokens}{parted}"
    return proof.program, proof.version, proof.what, proof.compared, equal, largest, f"{proof.tolerance:g}"


def write(found: Sequence[Proof], model: str, effect: str) -> None:
    """Write the result into the package, and its table into docs/how-to/serve.md."""
    content = {
        "date": datetime.date.today().isoformat(), "hubdpo": __version__, "model": model, "effect": effect,
        "programs": [asdict(proof) for proof in found], "not_run": NOT_RUN,
    }  # fmt: skip
    FILE.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    before, rest = DOCS.read_text("utf-8").split(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}\n\n{markdown(content)}\n{END}{rest.partition(END)[2]}", "utf-8")


def markdown(content: dict[str, object]) -> str:
    """Return the table of the docs."""
    programs, not_run = content["programs"], content["not_run"]
    assert isinstance(programs, list) and isinstance(not_run, dict)
    rows = [HEAD, tuple("---" for _ in HEAD), *(cells(Proof(**row)) for row in programs)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    said = f"{content['date']}, hubdpo {content['hubdpo']}, {content['model']}. {content['effect']}"
    left = [f"- {program}: {reason}" for program, reason in not_run.items()]
    return "\n".join([said, "", *lines, "", "Not run:", "", *left, ""])
