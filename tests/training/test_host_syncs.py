"""A pass reads next to nothing back from the device, where each number would make a GPU wait for the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_grouping import all_pairs, trainer_for
from torch.utils._python_dispatch import TorchDispatchMode

from hubdpo.errors import TrainingError
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_dim", "_unique2")
METHODS = ("tolist", "cpu", "numpy")


class Reads(TorchDispatchMode):
    """Counts what would wait for a GPU: numbers that become Python's, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in READS or masked:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def reads_of(step: Callable[[], object], trainer: SharedPrefixDPOTrainer, patch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the reads of a step, but not those of batches that are made on the CPU."""
    reads, make, counting = Reads(), trainer.batch, [True]

    def made(rows: Any) -> Any:
        counting[0] = False
        batch = make(rows)
        counting[0] = True
        return batch

    for name in METHODS:
        plain = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor, *args: Any, name: str = name, plain: Any = plain) -> Any:
            reads.found[name] += counting[0]
            return plain(tensor, *args)

        patch.setattr(torch.Tensor, name, read)
    patch.setattr(trainer, "batch", made)
    with reads:
        step()
    return +reads.found


@pytest.mark.parametrize("group_prompts", [False, True])
def test_a_pass_reads_six_numbers_at_most(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_prompts: bool
) -> None:
    rows = all_pairs(4, prompts=3)
    trainer = trainer_for(
        tiny_base, tmp_path, rows, group_prompts=group_prompts, per_device_train_batch_size=2,
        gradient_accumulation_steps=9, gradient_checkpointing=True,
    )  # fmt: skip
    trainer.create_optimizer()
    loader = trainer.get_train_dataloader()
    batches, _ = trainer.get_batch_samples(iter(loader), len(loader), torch.device("cpu"))
    trainer.current_gradient_accumulation_steps = len(batches)
    passes = sum(len(trainer.passes(batch, trainer.limit)) for batch in batches)
    assert passes > 1

    def step() -> None:
        for batch in batches:
            trainer.training_step(trainer.model, batch)

    found = reads_of(step, trainer, monkeypatch)
    assert found.total() <= 6 * passes, found
    # on a GPU, TRL's head also selects the positions with a label: once for the policy, once for the reference
    assert found.total() + 2 * passes <= 6 * passes, found


def test_without_the_tally_trl_reads_many(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count itself works."""
    rows = all_pairs(2, prompts=2)
    trainer = trainer_for(tiny_base, tmp_path, rows)
    batch = trainer.batch(list(trainer.train_dataset))
    found = reads_of(lambda: trainer.compute_loss(trainer.model, batch), trainer, monkeypatch)
    assert found.total() > 12, found


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved_or_logged(tiny_base: Path, tmp_path: Path) -> None:
    rows = all_pairs(2, prompts=3)
    trainer = trainer_for(tiny_base, tmp_path, [{**row, "row": 7 + place} for place, row in enumerate(rows)])
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data.fill_(float("nan"))
    actions: list[Callable[[], object]] = [
        lambda: trainer.log({}), lambda: trainer._save_checkpoint(trainer.model, None),
        lambda: trainer.begin_step([list(trainer.train_dataset)]),
    ]  # fmt: skip
    for action in actions:
        trainer.compute_loss(trainer.model.train(), trainer.batch(list(trainer.train_dataset)))
        message = "the loss is nan at step 1, in rows 7, 8, 9 of the train split; nothing was saved yet"
        with pytest.raises(TrainingError, match=message) as caught:
            action()
        assert "another run" not in str(caught.value.hint)
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))
    (Path(trainer.args.output_dir) / "checkpoint-1").mkdir(parents=True)
    trainer.compute_loss(trainer.model.train(), trainer.batch(list(trainer.train_dataset)))
    with pytest.raises(TrainingError, match="the last complete checkpoint is kept") as caught:
        trainer.log({})
    assert "is another run, with an `--output-dir` of its own" in str(caught.value.hint)
