"""Time steps of a 7B base in NF4 on one trainer: TRL's settings, hubdpo's, each option by itself, and all together.

Every arm runs the same pairs with the same adapter, so the ratio of two arms is what an option gives. TRL's defaults
run first and last: the difference is the noise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import time
from collections.abc import Iterator
from typing import Any

import bitsandbytes
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AttentionInterface

from hubdpo.data.encoded.rows import Row, TokenRows
from hubdpo.training.preflight import preflight
from hubdpo.training.step.attention import PREFIX
from hubdpo.training.step.liger import LigerKernels
from hubdpo.training.step.passes import Limit, padded_tokens
from hubdpo.training.step.reference import add_reference_log_probs
from hubdpo.training.step.tally import Counts
from tests.benchmarks.pair_data import by_length
from tests.benchmarks.train_steps import OwnParts
from tests.gpu.findings import Check
from tests.gpu.models import SHAPES, adapter_in, hh_rows, random_nf4, trainer_on

SECONDS = 150
"""After which no further arm starts."""
REPEATS = 2
"""Steps of an arm of hubdpo, of which the faster one counts; TRL's take longer and vary less."""
Rows = list[dict[str, Any]]


class Bench:
    """A trainer whose settings change from arm to arm, so that nothing is loaded twice."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.shape = SHAPES["tiny, untied" if check.rehearse else "Qwen2-7B"]
        self.pairs, self.step_pairs = (2, 4) if check.rehearse else (8, 32)
        self.deadline = time.monotonic() + SECONDS
        began = time.monotonic()
        torch.manual_seed(0)
        model = random_nf4(self.shape, check.device)
        check.wait()
        held = None if check.rehearse else round(torch.cuda.memory_allocated() / 1e9, 2)
        check.find(loaded_seconds=round(time.monotonic() - began, 1), weights_gb=held)
        self.data: Rows = hh_rows(self.step_pairs, most=64 if check.rehearse else None)
        self.config, self.trainer = trainer_on(
            model, check.scratch, self.data, check.device, per_device_train_batch_size=self.pairs,
            gradient_accumulation_steps=self.step_pairs // self.pairs, checkpoint_layers=self.shape.layers,
        )  # fmt: skip
        self.trainer.create_optimizer()
        self.parts, self.recomputed = OwnParts(self.trainer), self.trainer.recomputed
        self.shared = self.parts.shared_prefix
        self._with_reference: Rows = []

    def with_reference(self) -> Rows:
        if not self._with_reference:
            began = time.monotonic()
            self.parts.use(packed=True, fused=True)
            self._with_reference = list(
                add_reference_log_probs(self.trainer, TokenRows.of(self.data), identity={"check": time.time_ns()})
            )
            self.trainer.model.train()
            self.check.find(reference_seconds=round(time.monotonic() - began, 2))
        return self._with_reference

    def step(self, batches: list[list[Row]]) -> float:
        trainer = self.trainer
        trainer.begin_step(batches)
        loss = sum(trainer.training_step(trainer.model_wrapped, batch) for batch in batches)
        weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        trainer.optimizer.zero_grad()
        return float(loss)

    def arm(
        self, name: str, *, ours: bool = True, cached: bool = False, like_length: bool = False,
        recompute: int | None = None, tokens: int | None = None, fused: bool = True, with_profile: bool = False,
    ) -> None:  # fmt: skip
        """Time a step; `recompute` layers are recomputed, by default all."""
        if time.monotonic() > self.deadline:
            self.check.find(arm=name, ok=False, error="no time was left")
            return
        with self.check.part(f"arm: {name}"):
            data = self.with_reference() if cached else self.data
            trainer = self.trainer
            self.parts.use(packed=ours, fused=ours and fused)
            trainer.precompute_ref_logps, trainer.limit = cached, Limit(tokens=tokens)
            self.recomputed.longest = None
            self.recomputed.count = self.shape.layers if recompute is None else recompute
            size = self.step_pairs if tokens else self.pairs
            batches = by_length(data, size) if like_length else [data[i : i + size] for i in range(0, len(data), size)]
            trainer.current_gradient_accumulation_steps = len(batches)
            self._time(name, batches, ours=ours, cached=cached)
            if with_profile:
                self._profile(name, batches[0])

    def _time(self, name: str, batches: list[Any], *, ours: bool, cached: bool) -> None:
        on_gpu = not self.check.rehearse
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            loss, took = self.step(batches), []
            for _ in range(REPEATS if ours else 1):
                self.shared.packed_tokens = 0
                self.check.wait()
                began = time.perf_counter()
                self.step(batches)
                self.check.wait()
                took.append(time.perf_counter() - began)
        except torch.OutOfMemoryError:
            self.trainer.optimizer.zero_grad()
            torch.cuda.empty_cache()
            self.check.find(arm=name, ok=False, error="out of memory")
            return
        seconds, forward = min(took), 1 if cached else 2
        counts = [Counts.of(batch) for batch in batches]
        padded = sum(len(batch) * max(map(padded_tokens, batch)) for batch in batches)
        tokens = self.shared.packed_tokens / forward if ours else padded
        # policy and reference forward, what is recomputed, and the gradients of the states; the weights get none
        passes = forward + 1 + self.recomputed.count / self.shape.layers
        scored = sum(each.chosen + each.rejected for each in counts)
        head = 2 * self.shape.hidden * self.shape.vocabulary * scored * (forward + 2)
        flops = 2 * self.shape.linear_weights * tokens * passes + head
        real = sum(each.tokens for each in counts)
        self.check.find(
            arm=name, ok=True, seconds=round(seconds, 4), all_seconds=[round(s, 4) for s in took], loss=loss,
            pairs_per_s=round(self.step_pairs / seconds, 2), tokens_per_s=round(real / seconds),
            backbone_tokens=round(tokens), passes=round(passes, 2), tflops=round(flops / seconds / 1e12, 1),
            peak_gb=round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
        )  # fmt: skip

    def _profile(self, name: str, batch: list[Row]) -> None:
        """Write where the time of one batch goes, on the GPU and in launching."""
        kinds = [ProfilerActivity.CPU] + ([] if self.check.rehearse else [ProfilerActivity.CUDA])
        with profile(activities=kinds) as seen:
            self.step([batch])
            self.check.wait()
        events = seen.key_averages()
        report: dict[str, Any] = {"arm": name, "pairs": len(batch)}
        for key in ("self_device_time_total", "self_cpu_time_total"):
            ordered = sorted(events, key=lambda event, key=key: getattr(event, key, 0), reverse=True)
            report[key] = [
                {"name": event.key[:120], "calls": event.count, "ms": round(getattr(event, key, 0) / 1e3, 2)}
                for event in ordered[:60]
            ]
        number = len(list(self.check.out.glob("profile-*.json")))
        (self.check.out / f"profile-{number}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")

    def auto(self) -> dict[str, int | None]:
        """Return the tokens of a pass and the layers to recompute that the preflight chooses on a GPU."""
        self.parts.use(packed=True, fused=True)
        self.trainer.precompute_ref_logps, self.trainer.limit = False, Limit()
        config = self.config.model_copy(update={"tokens_per_batch": "auto", "checkpoint_layers": "auto"})
        measured = preflight(config, self.trainer, TokenRows.of(self.data), device=self.check.device)
        held = None if self.check.rehearse else round(torch.cuda.max_memory_allocated() / 1e9, 2)
        self.check.find(auto=dataclasses.asdict(measured), preflight_peak_gb=held)
        return {"tokens": measured.tokens_per_batch, "recompute": measured.checkpoint_layers}

    @contextlib.contextmanager
    def dequantised(self) -> Iterator[None]:
        """Within the body, keep the weights as `--dequantize-once` does."""
        kept = []
        for module in list(self.trainer.model.modules()):
            layer = getattr(module, "base_layer", None)
            if isinstance(layer, bitsandbytes.nn.Linear4bit):
                plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
                weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
                plain.weight = torch.nn.Parameter(weight, requires_grad=False)
                plain.bias = layer.bias
                module.base_layer = plain
                kept.append((module, layer))
        try:
            yield
        finally:
            for module, layer in kept:
                module.base_layer = layer

    @contextlib.contextmanager
    def compiled(self) -> Iterator[None]:
        """Within the body, run each decoder layer compiled, with its attention as it is and PEFT's projections."""
        attention = AttentionInterface()[PREFIX + "sdpa"]
        AttentionInterface.register(PREFIX + "sdpa", torch.compiler.disable(attention))
        for layer in self.recomputed.layers:
            layer.compile(dynamic=True)
        try:
            yield
        finally:
            AttentionInterface.register(PREFIX + "sdpa", attention)
            for layer in self.recomputed.layers:
                layer._compiled_call_impl = None


def run(check: Check) -> None:
    bench = Bench(check)
    theirs = torch.float32 if check.rehearse else torch.bfloat16

    def trl(name: str, **options: Any) -> None:
        with adapter_in(bench.trainer.model, theirs):
            bench.arm(name, ours=False, **options)

    trl("TRL defaults")
    auto = bench.auto()
    fast = {**auto, "cached": True}
    bench.arm("hubdpo", **auto, with_profile=True)
    bench.arm("hubdpo --reference cached", **fast)
    bench.arm(f"hubdpo, {bench.pairs} pairs a pass, all layers recomputed")
    trl("TRL, cached reference, batches by length, all layers kept", like_length=True, cached=True, recompute=0)
    bench.arm("hubdpo without fused projections and norms", **auto, fused=False)
    with bench.dequantised():
        bench.arm("hubdpo --reference cached --dequantize-once", **fast)
    bench.arm("hubdpo --reference cached, all layers recomputed", **{**fast, "recompute": None})
    trl("TRL, cached reference, batches by length", like_length=True, cached=True)
    trl("TRL defaults, again")
    if check.rehearse:
        return  # Triton has no CPU
    with bench.compiled():
        bench.arm("hubdpo --reference cached, compiled layers", **fast, fused=False)
    if importlib.util.find_spec("liger_kernel"):
        bench.trainer.liger = LigerKernels(bench.trainer.model.get_base_model())  # as `--use-liger-kernel` does
        bench.arm("hubdpo --reference cached --use-liger-kernel", **fast)
