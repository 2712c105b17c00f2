"""What it takes to serve an adapter: memory, worked out from headers and config, and speed where it was measured."""

from __future__ import annotations

from hubdpo.artefacts.manifests.base_memory import BYTES, NF4_BITS, BaseMemory
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.fences import one_line
from hubdpo.cards.model.citations import QLORA
from hubdpo.cards.model.serving import Adapter
from hubdpo.cards.results import Row
from hubdpo.console import counted
from hubdpo.machine.refusals import in_units

TOKENS = 1_000
"""Tokens of a conversation for which the cache is told."""
UNKNOWN = "not known"
_QLORA = f"[QLoRA](https://arxiv.org/abs/{QLORA.arxiv})"


def memory_rows(run: RunManifest, adapter: Adapter) -> list[Row]:
    """Return (what, bytes in 16 bits, and for a run in NF4 bytes with the base in NF4); none where nothing is known."""
    memory = run.base.memory
    if memory is None:
        return []
    cache, own = in_units_of_cache(memory), in_units(BYTES * adapter.parameters)
    rows: list[Row] = [
        ("weights of the base model", in_units(memory.in_16_bits), in_units(memory.in_nf4)),
        ("weights of the adapter", own, own),
        (f"cache for each {TOKENS:,} tokens of a conversation", cache, cache),
    ]
    return rows if run.in_4bit else [row[:2] for row in rows]


def memory_words(run: RunManifest) -> str:
    """Say from what the memory was worked out, and what is not in it."""
    memory = run.base.memory
    if memory is None:
        return ""
    nf4 = f" NF4 takes {NF4_BITS:.3f} bits for a value of a linear layer ({_QLORA}, section 3)."
    cache = (
        f" The cache has {memory.cache_values:,} keys and values for a token, of all layers, in 16 bits."
        if memory.cache_values is not None
        else " The cache is not known: not all layers keep the keys and values of all tokens."
    )
    return (
        "Worked out from the shapes of the weights and the base's config, not measured, at 2 bytes a value."
        f"{nf4 if run.in_4bit else ''}{cache} Programs need more on top, for activations and buffers of their own."
    )


def in_units_of_cache(memory: BaseMemory) -> str:
    """Return the bytes of the cache for TOKENS tokens in 16 bits, with their unit."""
    return UNKNOWN if memory.cache_values is None else in_units(BYTES * TOKENS * memory.cache_values)


def merged_words(manifest: MergeManifest) -> str:
    """Say what a merged model takes in memory."""
    cache = manifest.base.memory and in_units_of_cache(manifest.base.memory)
    known = "" if cache in (None, UNKNOWN) else f", and the cache {cache} for each {TOKENS:,} tokens of a conversation"
    size = in_units(manifest.parameters * (4 if manifest.dtype == "float32" else BYTES))
    return f"The weights take {size} of memory{known}; programs need more on top."


def speed_words(report: EvalReport | None) -> str:
    """Say how fast the adapter answered in the evaluation; "" where that was not measured."""
    health = report.health if report is not None else None
    speed = health.answers.speed if health is not None and health.answers is not None else None
    if health is None or speed is None:
        return ""
    weights = f"the base model in {health.weights}" if health.weights else "the base model as in training"
    return (
        f"Measured by `hubdpo evaluate` on {one_line(speed.device)}: {speed.tokens / speed.seconds:,.1f} tokens a "
        f"second, {counted(speed.at_once, 'answer')} at a time, with {weights} and the adapter beside it in "
        "transformers. A server was not measured."
    )
