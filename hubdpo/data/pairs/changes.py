"""What prepare may alter in a row that it keeps; each is a bit in the keys."""

from __future__ import annotations

CHANGES = (
    "stripped_leading_newlines", "redacted_secret", "prompt_cut_by_message", "taken_out_of_template",
    "system_column_left_out", "unscored_answers_left_out", "text_taken_out_of_list",
)  # fmt: skip
"""The names of the bits, from the lowest."""
STRIPPED, REDACTED, CUT, UNRENDERED, SYSTEM_LEFT_OUT, UNSCORED, UNLISTED = (1 << bit for bit in range(len(CHANGES)))


def names_of(bits: int) -> list[str]:
    return [name for place, name in enumerate(CHANGES) if bits & 1 << place]
