"""The form of a repo id on the Hub, and of a path."""

from __future__ import annotations

import re

SPELLED_AS_DATASET = re.compile(r"^datasets/(?=[^/@]+/[^/@]+(?:@|$))")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"


def is_repo_id(value: object, *, owner_required: bool = True) -> bool:
    """Tell whether `value` is `USER/NAME` by the rules of huggingface_hub's `validate_repo_id`.

    Some old repos, such as `gpt2`, have no owner.
    """
    pattern = f"{_PART}/{_PART}" if owner_required else f"(?:{_PART}/)?{_PART}"
    return (
        isinstance(value, str)
        and re.fullmatch(pattern, value) is not None
        and "--" not in value
        and ".." not in value
        and not value.endswith(".git")
    )


def looks_like_folder(ref: str) -> bool:
    """Tell whether a name was meant as a path: by its first character, or by the slashes before any `@`."""
    return ref.startswith((".", "/", "~")) or SPELLED_AS_DATASET.sub("", ref).partition("@")[0].count("/") != 1


def repo_in(text: str) -> str:
    """Return the repo that an address of a page names, else one with a part of the text as its name."""
    path = re.sub(r"^(https?:/+[^/]+/|hf:/+)?(datasets/|models/)?", "", text)
    owner, slash, name = path.partition("/")
    name = name.partition("/")[0].partition("@")[0]
    ids = (f"{owner}/{name}", f"{owner}/{_as_name(name)}" if slash else "", f"USER/{_as_name(text)}")
    return next((repo_id for repo_id in ids if is_repo_id(repo_id)), "USER/NAME")


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+|\.\.+", "-", text).strip("-.")
