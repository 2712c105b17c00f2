"""What a card says of how to get hubdpo: only what is true for anybody who reads it."""

from __future__ import annotations

import importlib.metadata
import re

from hubdpo.version import SOURCE


def pip_line(requirement: str | None) -> str:
    """Return the command that installs hubdpo, "" if none is known to get this version."""
    return f'pip install "{requirement}"' if requirement and requirement != SOURCE else ""


def in_words(version: str, requirement: str | None) -> str:
    """Return a sentence on how to get this version of hubdpo, where no command is known for it."""
    if requirement is None:
        return f"Use hubdpo {version}; where it was installed from is not recorded."
    if requirement == SOURCE:
        return f"Use hubdpo {version}; it was installed from its source, not from a package index."
    return ""


def name_and_version(version: str, requirement: str | None) -> str:
    """Return `hubdpo X` in Markdown, with a link to where hubdpo is at home, if an address is known."""
    url = _home(requirement)
    return f"[hubdpo]({url}) {version}" if url else f"hubdpo {version}"


def _home(requirement: str | None) -> str:
    """Return the address of the repository it was installed from, or else the one that its package names, or ""."""
    if found := re.match(r"hubdpo @ git\+(https?://[^@#]+)@", requirement or ""):
        return found[1].removesuffix(".git")
    try:
        facts = importlib.metadata.metadata("hubdpo")
    except importlib.metadata.PackageNotFoundError:
        return ""
    stated = (facts.get_all("Project-URL") or []) + (facts.get_all("Home-page") or [])
    urls = [str(entry).rpartition(", ")[2] for entry in stated]
    return next((url for url in urls if re.fullmatch(r"https?://[\w.~:/@%+=-]+", url)), "")
