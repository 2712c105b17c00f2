"""What the benchmarks of training share: a random base, trainers with settings, and steps whose CPU time is taken."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import Row, TokenRows
from hubdpo.demo.tiny_base import make_tiny_base
from hubdpo.model.bases.load import load_base
from hubdpo.training.preflight import preflight
from hubdpo.training.step.reference import add_reference_log_probs
from hubdpo.training.step.trainer import make_trainer
from tests.benchmarks.pair_data import LONGEST, VOCABULARY

HIDDEN, LAYERS = 128, 4
MODEL = f"Qwen2, hidden {HIDDEN}, {LAYERS} layers, vocabulary {VOCABULARY}, float32"
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {"gradient_checkpointing": True},
    "best": {"gradient_checkpointing": False, "reference": "cached"},
}
"""TRL as it comes, and at its best, for which batches are of like length as well."""
Gradients = dict[str, torch.Tensor]


class Step(NamedTuple):
    """CPU seconds of a step's forward and backward passes, its loss, and the most bytes that one kept for backward."""

    seconds: float
    loss: float
    kept: int = 0


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


class Arm:
    """A trainer with settings of its own. Its adapter is that of every other arm."""

    def __init__(
        self, base: Path, out: Path, data: Sequence[Mapping[str, Any]], options: dict[str, Any], *, nf4: bool = False
    ) -> None:
        self.config = config = TrainConfig.build(
            {"model_name_or_path": "x/y", "dataset": "x", "output_dir": out, "max_length": LONGEST, **options}
        )
        torch.manual_seed(0)
        model = load_base(base, device="cpu", load_in_4bit=nf4, dtype="float32")
        rows = TokenRows.of(data)
        self.trainer = trainer = make_trainer(
            config, model.dequantize() if config.dequantize_once else model, AutoTokenizer.from_pretrained(base), rows,
            None, device="cpu", steps=1, callbacks=[],
        )  # fmt: skip
        _set_adapter(trainer)
        trainer.create_optimizer()
        trainer.use_limits(preflight(config, trainer, rows, device="cpu"))
        if config.reference == "cached":
            trainer.model.train()
            rows = add_reference_log_probs(trainer, rows, identity={"benchmark": time.time_ns()})
            trainer.precompute_ref_logps = True
        self.rows: list[Row] = list(rows)

    @functools.cached_property
    def parts(self) -> OwnParts:
        return OwnParts(self.trainer)

    def step(self, batches: list[list[Row]], *, watched: bool = False) -> Step:
        """Take the forward and backward passes of a step; watching what they keep takes some time, too."""
        trainer, kept = self.trainer, Kept(self.trainer.model)
        plain = trainer.compute_loss

        def watching(*args: Any, **kwargs: Any) -> Any:
            with kept.watched():
                return plain(*args, **kwargs)

        if watched:
            trainer.compute_loss = watching
        trainer.current_gradient_accumulation_steps = len(batches)
        trainer.model.zero_grad()
        began = time.process_time()
        trainer.begin_step(batches)
        losses = [trainer.training_step(trainer.model, batch).item() for batch in batches]
        seconds = time.process_time() - began
        trainer.compute_loss = plain
        return Step(seconds, sum(losses), kept.most)

    def gradients(self) -> Gradients:
        """Return the gradients of the last step."""
        weights = self.trainer.model.named_parameters()
        return {name: weight.grad.clone() for name, weight in weights if weight.grad is not None}

    def adapter(self) -> Gradients:
        return {name: weight.data for name, weight in self.trainer.model.named_parameters() if "lora_" in name}


def apart(found: Gradients, expected: Gradients) -> float:
    """Return the relative distance of all gradients together."""
    assert found.keys() == expected.keys()
    distance = sum(float((found[name] - expected[name]).norm()) ** 2 for name in expected) ** 0.5
    return distance / sum(float(gradient.norm()) ** 2 for gradient in expected.values()) ** 0.5


def _set_adapter(trainer: Any) -> None:
    """Set the adapter to the same random weights in every trainer: with lora_B = 0 every loss is ln 2."""
    draw = torch.Generator().manual_seed(0)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05


def make_base(folder: Path) -> Path:
    """Write a random model with the proportions of Qwen2-0.5B: the head is a quarter of its weights."""
    make_tiny_base(folder)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=5 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // 64, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder
