"""The form of a repo id on the Hub."""

from __future__ import annotations

import re

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
