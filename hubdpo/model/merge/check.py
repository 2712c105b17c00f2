"""Check that a merged model is its adapter: compare log-probabilities of probes with the noise of 16-bit arithmetic.

16-bit arithmetic alone moves the log-probabilities of a real model by some tenths of a nat. So the merged model is
computed as it loads and once more in float32: their difference is the noise, which is not the fault of the merge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubdpo import console
from hubdpo.artefacts.manifests.evaluation import Probes
from hubdpo.artefacts.manifests.merge import MergeCheck
from hubdpo.config import MergeConfig
from hubdpo.errors import VerificationFailed
from hubdpo.model.bases.load import read_causal_lm
from hubdpo.model.probes import record_probes
from hubdpo.model.tokenizer.load import read_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

EXACT = 1e-3
"""Largest difference of a token's log-probability, in nats, when everything is computed and stored in float32."""
OF_NOISE = 2.0
"""How many times the noise a difference may be: adapter and merged model both have noise."""
MOST_LOST = 0.5
"""Largest share of the adapter's effect that a merge may lose, as root mean squares over the tokens."""


class Merged(NamedTuple):
    """Probes of a merged model as it loads, and of the same weights in float32 and in bfloat16 arithmetic."""

    loaded: Probes
    fine: Probes
    coarse: Probes


def probe_written(
    folder: Path, dtype: str, device: str, *, computed_in: str, template_kwargs: Mapping[str, object] | None = None
) -> Merged:
    """Load a merged model of type `dtype` and record its probes.

    They are recorded in float32 and in 16-bit arithmetic when the model or the adapter (`computed_in`) has 16 bits.
    """
    import torch

    model = read_causal_lm(folder, dtype=getattr(torch, dtype)).to(device)
    record = partial(
        record_probes, tokenizer=read_tokenizer(folder), load_in_4bit=False, template_kwargs=template_kwargs
    )
    loaded = record(model)
    if dtype != "float32":
        with computing_in_float32(model):
            return Merged(loaded, record(model), loaded)
    if computed_in == "float32":
        return Merged(loaded, loaded, loaded)
    return Merged(loaded, loaded, record(model.to(getattr(torch, computed_in))))


@contextmanager
def computing_in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Let each module compute in float32, its weights widened only while it runs: memory grows by one module."""

    def widen(module: torch.nn.Module, _: object) -> None:
        for weight in module.parameters(recurse=False):
            weight.data = weight.data.float()

    def narrow(module: torch.nn.Module, _: object, __: object) -> None:
        for weight in module.parameters(recurse=False):
            weight.data = weight.data.to(dtype)  # exact: the values came from this type

    dtype, hooks = model.dtype, []
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            hooks += [module.register_forward_pre_hook(widen), module.register_forward_hook(narrow)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def compare(adapter: Probes, base: Probes, merged: Merged, config: MergeConfig) -> MergeCheck:
    """Return how far the merged model is from the adapter, both computed in the adapter's type.

    `adapter` and `base` are the probes of the model that was merged, with its adapter on and off. Raise
    VerificationFailed when the merged model is further from it than the noise of that arithmetic explains, or when the
    merge lost most of the adapter's effect.
    """
    computed_in = adapter.environment["dtype"]
    # one value for each token of all answers
    off = _differences(adapter, merged.fine if computed_in == "float32" else merged.coarse)
    effect, noise = _differences(base, adapter), _differences(merged.fine, merged.coarse)
    check = MergeCheck(
        tokens=len(off),
        mean_difference=sum(map(abs, off)) / len(off),
        largest_difference=max(map(abs, off)),
        noise=max(map(abs, noise)),
        adapter_effect=_rms(effect),
        share_lost=_rms(off) / _rms(effect) if _rms(effect) else 0.0,
        tolerance=config.tolerance or EXACT + OF_NOISE * max(map(abs, noise)),
        compared_in=computed_in,
    )
    if not check.largest_difference <= check.tolerance:  # written so that NaN fails too
        raise VerificationFailed(
            f"the merged model does not give the adapter's log-probabilities: they differ by "
            f"{check.largest_difference:.3g} nats, {check.tolerance:.3g} at most; nothing was written",
            hint="--dtype float32"
            if config.dtype != "float32"
            else "--base-weights as-trained, and the run's own base",
        )
    if check.share_lost > MOST_LOST:
        sentence = f"rounding to {config.dtype} takes {check.share_lost:.0%} of what the adapter changes"
        if computed_in == "float32" or _rms(off) > OF_NOISE * _rms(noise):
            raise VerificationFailed(f"{sentence}; nothing was written", hint="--dtype float32")
        console.warn(f"{sentence}, or the comparison in {computed_in} is not finer than that")
    return check


def _differences(first: Probes, second: Probes) -> list[float]:
    ours, theirs = ([value for probe in probes.probes for value in probe.log_probs] for probes in (first, second))
    return [there - here for here, there in zip(ours, theirs, strict=True)]


def _rms(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
