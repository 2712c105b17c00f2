"""Loss and gradients of hubdpo's step beside stock TRL's on the same batch.

In bfloat16 two right computations differ, so the yardstick is TRL beside itself: the same batch with more columns of
padding, which changes nothing but the shapes of the kernels.
"""

from __future__ import annotations

import importlib.util
import itertools

import pytest
import torch

from hubdpo.data.encoded.rows import TokenRows
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.liger import LigerKernels
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer
from tests.benchmarks.train_steps import OwnParts
from tests.gpu.findings import Check
from tests.gpu.models import Shape, hh_rows, trainer_on, write_base

MORE_PADDING = 65
Step = tuple[float, dict[str, torch.Tensor]]


def run(check: Check) -> None:
    shape = Shape(128, 2, 4, 2, 256, 1024, True) if check.rehearse else Shape(512, 4, 8, 2, 1024, 1024, True)
    base = write_base(check.scratch / "base", shape, check.device)
    data = hh_rows(8, most=64 if check.rehearse else 256)
    dtypes = ("float32",) if check.rehearse else ("float32", "bfloat16")
    for dtype, nf4, checkpointing in itertools.product(dtypes, (False, True), (False, True)):
        name = f"{dtype}, {'NF4' if nf4 else 'plain'}, {'recomputed' if checkpointing else 'all kept'}"
        with check.part(f"parity: {name}"), pytest.MonkeyPatch.context() as patch:
            if dtype == "float32":
                patch.setattr("torch.cuda.is_bf16_supported", lambda *args, **kwargs: False)
            model = load_base(base, device=check.device, load_in_4bit=nf4)
            _, trainer = trainer_on(
                model, check.scratch, data, check.device, per_device_train_batch_size=len(data), load_in_4bit=nf4,
                gradient_checkpointing=checkpointing,
            )  # fmt: skip
            _compare(check, trainer, data, dtype, nf4=nf4, checkpointing=checkpointing)


def _compare(
    check: Check, trainer: SharedPrefixDPOTrainer, data: list[dict[str, list[int]]], dtype: str, **options: bool
) -> None:
    parts = OwnParts(trainer)
    shared = parts.shared_prefix
    batch = trainer.batch(list(TokenRows.of(data)))
    pad = {"input_ids": trainer.processing_class.pad_token_id}
    wider = {
        key: torch.nn.functional.pad(value, (0, MORE_PADDING), value=pad.get(key, 0))
        for key, value in batch.items()
        if isinstance(value, torch.Tensor)
    }

    def step(*, ours: bool, inputs: dict[str, torch.Tensor]) -> Step:
        parts.use(packed=ours, fused=ours)
        trainer.model.zero_grad()
        given = {name: value for name, value in inputs.items() if ours or name != "layout"}
        with trainer.kernels():
            loss = trainer.compute_loss(trainer.model_wrapped, given)
            loss.backward()
        weights = trainer.model.named_parameters()
        return loss.item(), {name: w.grad.float().clone() for name, w in weights if w.grad is not None}

    stock = step(ours=False, inputs=batch)
    ours = _apart(step(ours=True, inputs=batch), stock)
    yardstick = _apart(step(ours=False, inputs=wider), stock)
    liger = None
    if check.device == "cuda" and importlib.util.find_spec("liger_kernel"):
        trainer.liger = LigerKernels(trainer.model.get_base_model())
        liger = _apart(step(ours=True, inputs=batch), stock)
    limit = 1e-4 if dtype == "float32" else max(2 * yardstick[1], 1e-2)
    check.find(
        parity=dtype, **options, loss=stock[0], loss_and_gradients_apart=ours, with_more_padding=yardstick,
        adapter=sorted({str(w.dtype) for w in trainer.model.parameters() if w.requires_grad}),
        padded_tokens=shared.padded_tokens, packed_tokens=shared.packed_tokens, with_liger=liger,
        ok=max(ours[1], liger[1] if liger else 0) <= limit,
    )  # fmt: skip


def _apart(step: Step, stock: Step) -> tuple[float, float]:
    """Return the difference of the losses, and the relative distance of all gradients together."""
    (loss, grads), (stock_loss, stock_grads) = step, stock
    assert grads.keys() == stock_grads.keys()
    assert grads
    distance = sum((grads[name] - stock_grads[name]).norm() ** 2 for name in grads) ** 0.5
    size = sum(grad.norm() ** 2 for grad in stock_grads.values()) ** 0.5
    return abs(loss - stock_loss), float(distance / size)
