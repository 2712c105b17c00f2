"""The pages of docs/reference that are generated, by file name."""

from __future__ import annotations

from pathlib import Path

from tests.reference import commands, exit_codes, manifest_page, python_page, schemas

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Return the text of each generated page."""
    return {
        "commands/index.md": commands.index(),
        **{f"commands/{name}.md": commands.page(name) for name in commands.names()},
        "exit-codes.md": exit_codes.page(),
        "python.md": python_page.page(),
        "manifests.md": manifest_page.page(),
        **{f"schemas/{name}": schemas.text(name) for name in schemas.MANIFESTS},
    }
