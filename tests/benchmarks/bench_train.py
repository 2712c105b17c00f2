"""Time a DPO step with the shared prefix beside the same step of stock TRL, in one interleaved run on the CPU.

Both run the same batches on the same model; lengths are drawn around those of hh-rlhf (median prompt 127, answer 59
tokens). The ratio is the result: seconds differ from machine to machine. `make bench` writes train.json beside it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hubdpo import console

console.quiet_libraries()

import torch  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from hubdpo.config import TrainConfig  # noqa: E402
from hubdpo.demo.tiny_base import make_tiny_base  # noqa: E402
from hubdpo.training.trainer import make_trainer  # noqa: E402

BATCHES, REPEATS = 3, 2
HIDDEN, LAYERS = 128, 2


def rows(pairs: int, seed: int) -> list[dict[str, list[int]]]:
    draw = torch.Generator().manual_seed(seed)

    def ids(median: float, sigma: float) -> list[int]:
        length = int(torch.exp(torch.randn((), generator=draw) * sigma) * median) + 2
        return torch.randint(10, 400, (min(length, 512),), generator=draw).tolist()

    return [
        {"prompt_ids": ids(127, 0.8), "chosen_ids": ids(59, 0.7), "rejected_ids": ids(59, 0.7)} for _ in range(pairs)
    ]


def one_step(trainer: Any, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Return the CPU seconds of forward and backward, and the loss."""
    trainer.model.zero_grad()
    began = time.process_time()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return time.process_time() - began, loss.item()


def measure(base: Path, out: Path, pairs: int) -> dict[str, Any]:
    data = Dataset.from_list([row for seed in range(BATCHES) for row in rows(pairs, seed)])
    config = TrainConfig.build(
        {"model_name_or_path": "x/y", "dataset": "x", "output_dir": out, "per_device_train_batch_size": pairs}
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    trainer = make_trainer(
        config, model, AutoTokenizer.from_pretrained(base), data, None, device="cpu", steps=1, callbacks=[]
    )
    trainer.model.train()
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:  # zero at the start, where every loss is ln 2 and no difference could show
            torch.nn.init.normal_(weight, std=0.05)
    shared = trainer.shared_prefix
    assert shared is not None
    ratios, differences = [], []
    for batch in trainer.get_train_dataloader():
        seconds: dict[bool, list[float]] = {True: [], False: []}
        losses = {}
        for _ in range(REPEATS):
            for ours in (True, False):
                trainer.shared_prefix = shared if ours else None
                took, losses[ours] = one_step(trainer, batch)
                seconds[ours].append(took)
        ratios.append(statistics.median(seconds[False]) / statistics.median(seconds[True]))
        differences.append(abs(losses[True] - losses[False]))
    return {
        "pairs": pairs,
        "tokens_ratio": round(shared.padded_tokens / shared.packed_tokens, 2),
        "speed_ratio": round(statistics.median(ratios), 2),
        "largest_loss_difference": max(differences),
    }


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        base = make_tiny_base(Path(scratch) / "base", hidden_size=HIDDEN, num_layers=LAYERS)
        results = [measure(base, Path(scratch) / "run", pairs) for pairs in (1, 4, 8)]
    environment = {
        "cpu_cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(),
        "torch": torch.__version__, "trl": trl.__version__,
        "model": f"Qwen2, hidden {HIDDEN}, {LAYERS} layers, float32, gradient checkpointing, online reference",
    }  # fmt: skip
    report = {"environment": environment, "lengths": "hh-rlhf-like", "results": results}
    (Path(__file__).parent / "train.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
