"""Dropped rows: their lines in `rejected.jsonl`, the policies that make them errors, and the next step for each."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import orjson

from hubdpo.artefacts.folders import storage
from hubdpo.config import PrepareConfig
from hubdpo.data.pairs.calls import UNREADABLE_CALL, UNREADABLE_TOOLS
from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import unknown_roles
from hubdpo.data.raw.inner_rows import NO_LIST
from hubdpo.data.raw.pieces import Piece, PieceReader
from hubdpo.data.raw.raw_file import DELIMITED
from hubdpo.data.raw.text.json_layout import CUT, Layout
from hubdpo.data.raw.text.json_lines import PYTHON_DICT
from hubdpo.data.tokens.members import ANOTHER_BASE, NOT_SHOWN
from hubdpo.errors import DataError
from hubdpo.secrets import shown_name

MOST_FIELDS = 20
UNPACK = {".gz": "gunzip -c", ".zst": "zstd -dc"}
POLICIES = {"tie": "on_tie", "over_length": "over_length", "contradiction": "on_conflict", "prompt_in_test": "on_leak"}
"""Reasons that an option can turn from a dropped row into an error."""

NEXT_STEPS = {
    "duplicate_pair": "repeats teach nothing new; `--dedupe none` keeps them",
    "over_max_rows": "the source has a `max_rows`; raise it to keep more",
    "left_out_by_weight": "the source has a `weight` below 1; raise it to keep more",
    "near_duplicate_pair": "`--dedupe exact` keeps pairs that only say almost the same",
    "contradiction": "`--on-conflict majority` keeps what most rows say",
    "over_length": "raise `--max-length`, or shorten prompts with `--over-length truncate`",
    "prompt_in_test": "the published splits share prompts; `--test-size 0.05` draws a new split of all rows, and "
    "`--on-leak keep` keeps them as they are",
    "template_rewrites_prompt": "the chat template rewrites the prompt once it is answered",
    "template_refuses": "the chat template refuses these conversations, by their order of roles as a rule",
    **dict.fromkeys(NOT_SHOWN.values(), f"the chat template leaves parts of these rows out; {ANOTHER_BASE}"),
    "turns_not_told_apart": "give answers of one turn: this chat template begins or ends the assistant's turns with no "
    "control token, so turns inside an answer cannot be told apart",
    "prompt_does_not_end_with_user": "the prompts end with the assistant's own words: begin both answers with "
    "them instead",
    "below_margin": "lower `--min-margin`",
    "orphan": "the message that these reply to is not in the file, so their prompt is unknown",
    "names_differ": "a comparison names its answers by the tags of the labelling interface, and `data` calls them "
    "otherwise; export JSON-MIN, and name the columns: --map prompt=...,first=...,second=...,vote=...",
    "left_over": "`--pairs all` pairs each better answer with each worse one",
    "unpaired": "each prompt has one answer and DPO needs two; train KTO on them (TRL's KTOTrainer)",
    "single_answer": "DPO compares two answers to one prompt; these rows have one",
    "secret_found": "`--redact` keeps rows with credentials, each replaced by its kind",
    NO_LIST: "`--rows` names a list in every row; these rows have none there",
    "malformed_line": "`rejected.jsonl` says what is wrong with each line",
    "missing_field": "a prompt or an answer is missing; look at rows with `--explain 3`, and name columns with `--map`",
    "truncated_cells": "the Hub's API cuts long texts; read the dataset itself: hf://datasets/USER/NAME",
    "unscored": "fewer than two answers of these rows have a score or rank; `--score-field` names another member",
    "not_utf8": "mend these lines; or, if all of the file is in another encoding, name it: --encoding NAME",
    "line_too_long": "raise `--max-line-bytes`",
    "not_a_transcript": "without a prompt each answer is a whole conversation, and these texts are none: name the "
    "column of the prompt, `--prompt ...`",
    "tie": "nobody preferred an answer in these rows, so there is nothing to learn from them",
    UNREADABLE_CALL: "give calls as OpenAI does: "
    '"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]',
    UNREADABLE_TOOLS: "give tools as a list of JSON schemas: "
    '[{"type": "function", "function": {"name": "f", "description": "...", "parameters": {}}}]',
    "reasoning_content": "the reasoning beside the text is not text; write it as text, or leave it out",
    "unreadable_messages": "write the messages as JSON, or the rows as .jsonl",
    "broken_template": "give the rows as lists of messages, without the template",
    "inverted": "the source scores or ranks `rejected` above `chosen`; take out what means something else",
    "unknown_label": "say what every value of the vote means: --labels first=...,second=...,tie=..., "
    "or of one answer a row: --labels good=...,bad=...; of flags such as winner_model_a one must be 1",
    "ambiguous_vote": "a vote such as `A` names one side, and the model or the answer of the other side is called the "
    "same; write the side that won, such as first, into the vote, or the models into columns of other names",
    "histories_differ": "the conversations differ before their last turns, or do not begin with the prompt; where they "
    "hold all of it, `--converter implicit-prompt` takes it from them; else their answers answer different prompts",
    "same_model": "the vote names the model of both answers; name the side that won, such as model_a",
    "identical_answers": "two answers that are the same text teach nothing",
    "unknown_role": "a role is one of system, user, assistant, or a name that stands for one, such as human and gpt; "
    "`rejected.jsonl` names the others",
    "lists_differ": "a row needs a score or rank for each of its answers, and an answer for each turn of the prompt, "
    "in the same order",
}
"""What to do about dropped rows, by the most frequent reason."""
DONE = {
    "contradiction": ("on_conflict", "majority", "as many rows say the one as the other; mend them"),
    "over_length": ("over_length", "truncate", "raise `--max-length`: these do not fit even without their older turns"),
}
"""What to do instead if the option that NEXT_STEPS recommends has this value already: (option, value, hint)."""

BY_REQUEST = frozenset(("over_max_rows", "left_out_by_weight"))
"""Reasons of pairs that the user left out of a source: nothing is wrong with them."""


class DroppedRow(TypedDict):
    """A line of `rejected.jsonl`; until the file is written, `line` counts from the beginning of the piece."""

    line: int
    reason: str
    source: NotRequired[str]
    detail: NotRequired[str]
    fields: NotRequired[dict[str, str]]
    """Type and length of each field, such as `str of 12`."""


def main_reason(dropped: Counter[str]) -> str:
    """Return the most frequent reason; of several, the first by name."""
    return max(sorted(dropped), key=lambda reason: dropped[reason])


def reason_counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()))


def next_step(dropped: Counter[str], config: PrepareConfig) -> str:
    """Return a hint about dropped rows, from their reasons and the options in use."""
    if "unknown_label" in dropped:
        return NEXT_STEPS["unknown_label"]
    if "wrong_type" in dropped and (config.prompt or config.map):
        return (
            "look at rows with `--explain 3`: a column holds no text and no messages; `--role-key` and `--content-key` "
            "name the keys of messages that have other ones"
        )
    look = "look at rows with `--explain 3`, and name their converter with `--converter`, or their columns with `--map`"
    reason = main_reason(dropped) if dropped else ""
    option, value, instead = DONE.get(reason, ("", None, ""))
    return instead if option and getattr(config, option) == value else NEXT_STEPS.get(reason, look)


def is_error(reason: str, config: PrepareConfig) -> bool:
    """Whether the options make a row that is dropped for this reason an error."""
    policy = POLICIES.get(reason)
    return (config.strict and reason not in BY_REQUEST) or (policy is not None and getattr(config, policy) == "error")


def dropped_line(line: int, reason: str, row: Row | None, detail: str = "", *, scan: bool = False) -> bytes:
    """Return the JSON line of a dropped row: its line within the piece, the reason and the shape of its fields.

    No text of the row is copied. `detail` says why a row could not be parsed; for `unknown_role` it names the roles.
    """
    fields = {shown_name(str(key), scan): _shape(field) for key, field in list((row or {}).items())[:MOST_FIELDS]}
    if reason == "unknown_role" and not detail:
        detail = ", ".join(shown_name(name, scan) for name in unknown_roles(row)[:MOST_FIELDS])
    details = {"detail": detail} if detail else {}
    return orjson.dumps({"line": line, "reason": reason, **details, "fields": fields}) + b"\n"


def _shape(value: object) -> str:
    size = f" of {len(value)}" if isinstance(value, (str, list, dict)) else ""
    return f"{type(value).__name__}{size}"


def unreadable(pieces: Sequence[Piece], max_line_bytes: int) -> DataError | None:
    """Return the error for a file whose pieces gave no row, or None if the file has no rows at all."""
    before = 0
    for piece in pieces:
        reader = PieceReader(piece, max_line_bytes=max_line_bytes)
        for row in reader:
            if row.value is None:
                return _error(piece, before + row.line, row.problem or "malformed_line", row.detail)
        before += reader.lines
    return None


def _error(piece: Piece, line: int, problem: str, detail: str) -> DataError:
    name, typed = piece.file.name, piece.file.typed
    quoted = shlex.quote(typed)
    unpack = next((f"{command} {quoted} | " for ending, command in UNPACK.items() if typed.endswith(ending)), "")
    source = "" if unpack else f" {quoted}"
    lines = piece.layout is Layout.LINES or piece.file.kind in DELIMITED
    place = f"{piece.file.place if lines else 'item'} {line:,}"
    if problem == "not_utf8":
        hint = "--encoding NAME, as whoever wrote it can say"
    elif problem == "line_too_long":
        hint = f"--max-line-bytes {storage.size_of(piece.file.path)}"
    elif problem in (CUT, NO_LIST):
        hint = NEXT_STEPS[problem]
    elif lines and detail.endswith(PYTHON_DICT):
        rows = "json.dumps(ast.literal_eval(line)) for line in sys.stdin if line.strip()"
        code = f"import ast, json, sys; print(*({rows}), sep='\\n')"
        hint = f"{unpack or f'cat {quoted} | '}python -c {shlex.quote(code)} > {Path(typed).stem}-json.jsonl"
    elif lines:
        hint = f"{unpack}sed -n {line}p{source} | cut -c 1-300"
    else:
        of = "" if piece.key is None or piece.layout is Layout.TABLE else f"[{orjson.dumps(piece.key).decode()}]"
        hint = f"{unpack}jq {shlex.quote(f'.{of}[{line - 1}]')}{source}"
    return DataError(f"no row of {name} can be read; {place} is the first: {problem}, {detail}", hint=hint)
