"""Part `quoted` of `eval.json`: held-out prompts and answers that a card may quote. It is there by consent alone."""

from __future__ import annotations

from hubdpo.artefacts.manifests.answered import Outcome
from hubdpo.artefacts.manifests.manifest import Count, Part


class Quote(Part):
    """A prompt with both answers, redacted and cut, and what a judge found, if one was asked."""

    prompt: str
    base: str
    adapter: str
    outcome: Outcome | None = None


class Quoted(Part):
    """The answers that were drawn from those of the evaluation, because `--publish-samples` was given."""

    of: Count
    """Answered prompts from which they were drawn."""
    seed: Count
    weights: str | None = None
    """How the base was loaded for the answers."""
    quotes: list[Quote]
