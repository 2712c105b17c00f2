"""TODO."""

from __future__ import annotations

import re


def is_repo_id(value: str) -> bool:
    """Tell whether `value` is `USER/NAME` by the Hub's rules (huggingface_hub `validate_repo_id`), owner required."""
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
    return (
        re.fullmatch(f"{part}/{part}", value) is not None
        and "--" not in value
        and ".." not in value
        and not value.endswith(".git")
    )
