"""JSON, YAML and cards of others are read in one place, within limits: what reads them otherwise is listed here."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hubdpo"
READERS = {
    "json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load", "HTMLParser",
    "RepoCard", "ModelCard", "DatasetCard", "metadata_load", "RepoCard.load", "ModelCard.load", "DatasetCard.load",
}  # fmt: skip
PLACES = {"artefacts/formats/bounded.py": "json.loads", "artefacts/formats/front_matter.py": "yaml.load"}
OURS = {
    "cards/lint/fields.py": "ships with the package",
    "cards/model/proofs.py": "ships with the package",
    "cli/mistakes.py": "the user's own options",
    "config/chat_template.py": "the user's own options",
    "config/name_values.py": "the user's own options",
    "config/yaml_file.py": "the user's own options",
    "config/spelling.py": "the user's own options",
    "data/tokens/tokenizer.py": "the user's own options",
    "data/tokens/tiktoken_bpe.py": "what a tokenizer that is loaded says of itself",
    "machine/endings.py": "what our own processes say",
    "demo/road.py": "what the demo's own process says",
    "model/adapters/trial.py": "what our own process says",
    "model/adapters/trial_child.py": "what our own process is told",
    "cards/model/plots.py": "the log of this run",
    "training/run/resume.py": "the state of this run's own checkpoint",
    "version.py": "what the installer wrote beside this package",
    "training/run/record.py": "the log of this run, and what PEFT wrote just now",
}
LOOPBACK = "loopback"
"""Shares no code with its clients, and has limits of its own."""


def readers() -> set[tuple[str, str]]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in READERS or called.endswith((".model_validate_json", ".card.load")):
                    found.add((name, called))
    return found


def test_whatever_reads_json_or_yaml_of_others_goes_through_one_place() -> None:
    others = {
        (name, called)
        for name, called in readers()
        if PLACES.get(name) != called and name not in OURS and not name.startswith(LOOPBACK)
    }
    assert not others


def test_the_list_has_nothing_that_is_gone() -> None:
    assert {name for name, _ in readers()} >= set(OURS) | set(PLACES)
