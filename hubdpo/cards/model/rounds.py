"""Name the adapter that a run started from, and the rounds of training behind an adapter, in a card."""

from __future__ import annotations

from collections.abc import Sequence

from hubdpo.artefacts.manifests.run import AdapterRef, Ancestor, DatasetRef, Round
from hubdpo.cards.fences import one_line
from hubdpo.cards.model.citations import names_of

Row = tuple[str, ...]
UNKNOWN = "not known"


def adapter_words(ref: AdapterRef) -> str:
    """Return an adapter as Markdown code: its name with version and commit, or with the hash of its weights."""
    at = f" at `{ref.revision}`" if ref.revision else f", a local folder, weights SHA-256 `{ref.sha256}`"
    return f"`{one_line(ref.name)}`{f' {one_line(ref.version)}' if ref.version else ''}{at}"


def round_rows(rounds: Sequence[Round]) -> list[Row]:
    """Return (round, method, started from, data, steps), the first round first; the last one is this release."""
    first_to_last = list(reversed(rounds))
    return [
        (
            f"{number}{', this one' if number == len(first_to_last) else ''}",
            one_line(names_of(each.losses) or UNKNOWN),
            adapter_words(each.started_from) if each.started_from is not None else "the base model",
            data_words(each.dataset),
            f"{each.steps:,}" if each.steps is not None else UNKNOWN,
        )
        for number, each in enumerate(first_to_last, start=1)
    ]


def with_others(merge: Ancestor) -> str:
    """Return words for the weight of an adapter and for those that were merged with it; "" for one alone."""
    if not merge.others:
        return ""
    first, *weights = merge.weights
    names = (f"`{one_line(each.name)}` {each.version or ''}".strip() for each in merge.others)
    others = ", ".join(f"{name} × {weight:g}" for name, weight in zip(names, weights, strict=False))
    return f" × {first:g} and {others}"


def data_words(data: DatasetRef | None) -> str:
    if data is None:
        return UNKNOWN
    at = f"at `{one_line(data.revision)}`" if data.revision else f"fingerprint `{one_line(data.fingerprint)}`"
    return f"`{one_line(data.repo_id or data.name)}` {at}, {data.train_pairs:,} pairs"
