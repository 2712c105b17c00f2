"""Rubrics: the criteria that a judge is given. Those of the package have a version; any other text file may be one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders.named import is_file
from hubdpo.artefacts.formats.front_matter import fields, part
from hubdpo.artefacts.manifests import judged
from hubdpo.errors import ConfigError

FOLDER = Path(__file__).parent / "rubrics"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.md")))
LONGEST = 20_000
"""Characters of a rubric."""


@dataclass(frozen=True)
class Rubric:
    """The criteria, and what a report says of them."""

    text: str
    facts: judged.Rubric


def read_rubric(given: str) -> Rubric:
    """Read a rubric of the package by its name, or else a file. Raise ConfigError if that is not possible."""
    path = FOLDER / f"{given}.md" if given in NAMES else Path(given)
    if not is_file(path):
        raise ConfigError(
            f"there is no rubric `{given}`, and no file of this name",
            hint=f"--rubric {NAMES[0]} (or {', '.join(NAMES[1:])}), or the path of a text file",
        )
    data = path.read_bytes()
    try:
        whole = data.decode()
        version = fields(whole).get("version")
    except ValueError as problem:
        raise ConfigError(f"the rubric `{given}` cannot be read: {problem}", hint="write it as UTF-8 text") from None
    text = part(whole).body.strip()
    if not 0 < len(text) <= LONGEST:
        raise ConfigError(
            f"the rubric `{given}` has {len(text):,} characters, not 1 to {LONGEST:,}",
            hint=f"write down in a few lines what makes an answer better, as in `{FOLDER / 'helpful.md'}`",
        )
    sha256 = hashlib.sha256(data).hexdigest()
    number = version if isinstance(version, int) and version >= 0 else None
    return Rubric(text, judged.Rubric(name=path.stem[:100], version=number, sha256=sha256))
