"""Time a DPO step of hubdpo beside the same step of stock TRL, in one interleaved run on the CPU.

There are two peers: TRL with its defaults (gradient checkpointing, reference in every step, batches as they come), and
TRL at its best (batches of like length, cached reference, no checkpointing). hubdpo runs the same batches with the same
settings. The model has the proportions of Qwen2-0.5B, so that its head and its layers take the same fractions of the
time. Then each option for speed runs a step of STEP pairs on an NF4 base, interleaved with TRL's defaults. The result
is the ratio: seconds differ from machine to machine. `make bench-train` writes train.json beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import trl
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.demo.tiny_base import make_tiny_base
from hubdpo.model.bases.load import load_base
from hubdpo.training.preflight import preflight
from hubdpo.training.step.reference import add_reference_log_probs
from hubdpo.training.step.trainer import make_trainer
from tests.benchmarks import tables

HIDDEN, LAYERS, VOCABULARY = 128, 4, 3584
BATCHES, REPEATS = 2, 2
LENGTHS = {  # median tokens and log-normal spread of prompt and answers
    "HH-RLHF-like": ((127, 0.8), (59, 0.7)),
    "UltraFeedback-like": ((80, 0.9), (300, 0.6)),
    "HelpSteer-like": ((560, 0.6), (190, 0.6)),
    "StackExchange-like": ((230, 0.7), (260, 0.7)),
}
LONGEST = 1024
SETTINGS = {"defaults": {"gradient_checkpointing": True}, "best": {"gradient_checkpointing": False}}
STEP = 32
OPTIONS: dict[str, dict[str, Any]] = {  # each is compared with the first, TRL's defaults
    "TRL": {"shared_prefix": False},
    "hubdpo": {},
    "--tokens-per-batch 4096": {"tokens_per_batch": 4096},
    f"--checkpoint-layers {LAYERS // 2}": {"checkpoint_layers": LAYERS // 2},
    "--checkpoint-layers 0": {"checkpoint_layers": 0},
    "--dequantize-once": {"dequantize_once": True},
    "--reference cached": {"reference": "cached"},
    "all of them, 0 layers": {
        "tokens_per_batch": 4096, "checkpoint_layers": 0, "dequantize_once": True, "reference": "cached",
    },
}  # fmt: skip


def rows(shape: str, pairs: int) -> list[dict[str, list[int]]]:
    draw = torch.Generator().manual_seed(0)

    def ids(median: float, spread: float) -> list[int]:
        length = int(torch.exp(torch.randn((), generator=draw) * spread) * median) + 2
        return torch.randint(10, VOCABULARY, (min(length, LONGEST // 2),), generator=draw).tolist()

    prompt, answer = LENGTHS[shape]
    return [
        {"prompt_ids": ids(*prompt), "chosen_ids": ids(*answer), "rejected_ids": ids(*answer)} for _ in range(pairs)
    ]


def grouped(data: list[dict[str, Any]], pairs: int) -> list[list[dict[str, Any]]]:
    """Cut into batches of like length, as `group_by_length` does over the whole data set."""
    ordered = sorted(
        data, key=lambda row: len(row["prompt_ids"]) + max(map(len, (row["chosen_ids"], row["rejected_ids"])))
    )
    return [ordered[start : start + pairs] for start in range(0, len(ordered), pairs)]


class OwnParts:
    """What hubdpo puts under TRL's step. With all of it off, the step is TRL's own."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.shared_prefix = trainer.shared_prefix
        assert self.shared_prefix is not None

    def use(self, *, packed: bool, fused: bool) -> None:
        self._trainer.shared_prefix = self.shared_prefix if packed else None
        for part in (self._trainer.fused_lora, self._trainer.fused_norms):
            part.active = fused


class Kept:
    """The most bytes that a forward pass keeps for backward, without the weights."""

    def __init__(self, model: Any) -> None:
        self.most = 0
        self._weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield
        self.most = max(self.most, sum(kept.values()))


def one_step(trainer: Any, batch: dict[str, torch.Tensor], kept: Kept) -> tuple[float, float]:
    """Return the CPU seconds of forward and backward, and the loss."""
    trainer.model.zero_grad()
    began = time.process_time()
    with kept.watched():
        loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return time.process_time() - began, loss.item()


def trained_a_little(trainer: Any) -> None:
    """Set the adapter to the same random weights in every trainer: with lora_B = 0 every loss is ln 2."""
    draw = torch.Generator().manual_seed(0)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05


def measure(base: Path, out: Path, shape: str, setting: str, pairs: int) -> dict[str, Any]:
    data = rows(shape, pairs * BATCHES)
    config = TrainConfig.build(
        {
            "model_name_or_path": "x/y", "dataset": "x", "output_dir": out, "per_device_train_batch_size": pairs,
            **SETTINGS[setting],
        }
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    trainer = make_trainer(
        config, model, AutoTokenizer.from_pretrained(base), TokenRows.of(data), None, device="cpu", steps=1,
        callbacks=[],
    )  # fmt: skip
    trained_a_little(trainer)
    if config.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    batches = [data[start : start + pairs] for start in range(0, len(data), pairs)]
    if setting == "best":
        data = list(add_reference_log_probs(trainer, TokenRows.of(data), identity={"benchmark": time.time_ns()}))
        trainer.precompute_ref_logps = True
        batches = grouped(data, pairs)
    trainer.model.train()
    parts = OwnParts(trainer)
    shared = parts.shared_prefix
    shared.padded_tokens = shared.packed_tokens = 0
    seconds: dict[bool, float] = {True: 0.0, False: 0.0}
    memory = {ours: Kept(trainer.model) for ours in (True, False)}
    differences = []
    for batch in batches:
        took: dict[bool, list[float]] = {True: [], False: []}
        losses = {}
        for _ in range(REPEATS):
            for ours in (True, False):
                parts.use(packed=ours, fused=ours)
                spent, losses[ours] = one_step(trainer, trainer.batch(batch), memory[ours])
                took[ours].append(spent)
        for ours, values in took.items():
            seconds[ours] += min(values)
        differences.append(abs(losses[True] - losses[False]))
    count = len(data)
    return {
        "lengths": shape, "peer": f"TRL {setting}", "pairs": pairs,
        "tokens_ratio": round(shared.padded_tokens / shared.packed_tokens, 2),
        "trl_pairs_per_s": round(count / seconds[False], 2), "hubdpo_pairs_per_s": round(count / seconds[True], 2),
        "speed_ratio": round(seconds[False] / seconds[True], 2),
        "trl_kept_mb": round(memory[False].most / 1e6), "hubdpo_kept_mb": round(memory[True].most / 1e6),
        "largest_loss_difference": max(differences),
    }  # fmt: skip


class Arm:
    """A trainer with one option for speed, and a step of STEP pairs."""

    def __init__(self, base: Path, out: Path, option: str, pairs: int, data: list[dict[str, Any]]) -> None:
        config = TrainConfig.build(
            {
                "model_name_or_path": "x/y", "dataset": "x", "output_dir": out, "per_device_train_batch_size": pairs,
                "gradient_accumulation_steps": STEP // pairs, "max_length": LONGEST, **OPTIONS[option],
            }
        )  # fmt: skip
        torch.manual_seed(0)
        model = load_base(base, device="cpu", load_in_4bit=True)
        self.trainer = trainer = make_trainer(
            config, model.dequantize() if config.dequantize_once else model, AutoTokenizer.from_pretrained(base),
            TokenRows.of(data), None, device="cpu", steps=1, callbacks=[],
        )  # fmt: skip
        trained_a_little(trainer)
        trainer.create_optimizer()
        trainer.use_limits(preflight(config, trainer, TokenRows.of(data), device="cpu"))
        self.data = data
        if config.reference == "cached":
            self.data = list(
                add_reference_log_probs(
                    trainer, TokenRows.of(data), identity={"benchmark": time.time_ns(), "arm": option}
                )
            )
            trainer.precompute_ref_logps = True
        self.pairs = STEP if config.tokens_per_batch else pairs
        trainer.current_gradient_accumulation_steps = STEP // self.pairs
        self.kept = Kept(trainer.model)
        plain = trainer.compute_loss

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.kept.watched():
                return plain(*args, **kwargs)

        trainer.compute_loss = watched  # type: ignore[method-assign]

    def step(self) -> tuple[float, float]:
        """Return the CPU seconds of the step, and its loss."""
        starts = range(0, STEP, self.pairs)
        batches = [self.data[start : start + self.pairs] for start in starts]
        self.trainer.model.zero_grad()
        began = time.process_time()
        self.trainer.begin_step(batches)
        losses = [self.trainer.training_step(self.trainer.model, batch).item() for batch in batches]
        return time.process_time() - began, sum(losses)


def measure_options(base: Path, out: Path, shape: str, pairs: int) -> list[dict[str, Any]]:
    """Run the same step with every option, one after the other, and again."""
    data = rows(shape, STEP)
    arms = {option: Arm(base, out, option, pairs, data) for option in OPTIONS}
    found = [{option: arm.step() for option, arm in arms.items()} for _ in range(REPEATS)]
    seconds = {option: min(run[option][0] for run in found) for option in OPTIONS}
    return [
        {
            "lengths": shape, "option": option, "pairs_per_s": round(STEP / seconds[option], 2),
            "speed_ratio": round(seconds["TRL"] / seconds[option], 2), "kept_mb": round(arms[option].kept.most / 1e6),
            "loss_difference": abs(found[0][option][1] - found[0]["TRL"][1]),
        }
        for option in OPTIONS
    ]  # fmt: skip


def make_base(folder: Path) -> Path:
    """Write a random model with the proportions of Qwen2-0.5B: the head is a quarter of its weights."""
    make_tiny_base(folder)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=5 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // 64, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=8)
    pairs = parser.parse_args().pairs
    torch.manual_seed(0)
    torch.set_num_threads(1)  # CPU seconds of threads that wait for each other are no measure
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HUBDPO_CACHE"] = scratch
        base = make_base(Path(scratch) / "base")
        results = [
            measure(base, Path(scratch) / "run", shape, setting, pairs) for shape in LENGTHS for setting in SETTINGS
        ]
        options = measure_options(base, Path(scratch) / "run", next(iter(LENGTHS)), pairs)
    environment = {
        "cpu_threads": torch.get_num_threads(), "machine": platform.machine(), "python": platform.python_version(),
        "torch": torch.__version__, "trl": trl.__version__,
        "model": f"Qwen2, hidden {HIDDEN}, {LAYERS} layers, vocabulary {VOCABULARY}, float32",
    }  # fmt: skip
    for lengths in LENGTHS:
        defaults, best = (row for row in results if row["lengths"] == lengths)
        best["over_defaults"] = round(best["hubdpo_pairs_per_s"] / defaults["trl_pairs_per_s"], 2)
    report = {
        "environment": environment,
        "results": results,
        "options": options,
        "pairs_a_step": STEP,
        "layers": LAYERS,
        "median_speed_ratio": statistics.median(r["speed_ratio"] for r in results),
    }
    (Path(__file__).parent / "train.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tables.put("bench-train", tables.train_table(report))
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
