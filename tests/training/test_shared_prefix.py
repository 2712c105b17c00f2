"""The shared-prefix forward gives stock TRL's losses, metrics and LoRA gradients."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen
from datasets import Dataset
from families import QWEN2_PROJECTIONS
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, Qwen3Config, Qwen3ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl import DPOConfig, DPOTrainer

from hubdpo.training.step import attention
from hubdpo.training.step.batch import REFERENCE, PairCollator
from hubdpo.training.step.layout import Layout, build_layout
from hubdpo.training.step.shared_prefix import SharedPrefix
from tests.near import assert_near, assert_same_step

LENGTHS = {  # of prompt, chosen and rejected of up to eight pairs
    "short prompts": ([2, 3, 5, 4, 1, 6, 2, 3], [30, 12, 44, 7, 21, 3, 60, 9], [11, 25, 6, 40, 33, 18, 2, 50]),
    "long prompts": ([60, 45, 80, 33, 70, 52, 41, 90], [5, 9, 3, 12, 2, 7, 4, 6], [8, 4, 11, 2, 6, 3, 9, 5]),
    "equal": ([20] * 8, [10] * 8, [10] * 8),
    "skewed": ([1, 90, 7, 40, 2, 66, 15, 3], [1, 2, 60, 30, 45, 1, 8, 70], [50, 1, 3, 29, 2, 40, 64, 1]),
}
LOSSES: dict[str, dict[str, Any]] = {
    **{name: {"loss_type": [name]} for name in ("sigmoid", "hinge", "ipo", "apo_zero", "sigmoid_norm", "sft")},
    "robust": {"loss_type": ["robust"], "label_smoothing": 0.1},
    "sigmoid and sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.7, 0.3]},
}


def pairs(shape: str, count: int) -> Dataset:
    draw = torch.Generator().manual_seed(3)
    rows = [
        {
            name: torch.randint(10, 400, (lengths[i],), generator=draw).tolist()
            for name, lengths in zip(("prompt_ids", "chosen_ids", "rejected_ids"), LENGTHS[shape], strict=True)
        }
        for i in range(count)
    ]
    return Dataset.from_list(rows)


class Prepared(DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def make_trainer(base: Path, out: Path, data: Dataset, *, nf4: bool = False, **options: Any) -> Prepared:
    torch.manual_seed(0)
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=quantised if nf4 else None
    )
    settings: dict[str, Any] = {
        "per_device_train_batch_size": len(data), "report_to": [], "bf16": False, "fp16": False, "max_length": None,
        "use_cpu": True, "gradient_checkpointing": False, **options,
    }  # fmt: skip
    trainer = Prepared(
        model=model,
        args=DPOConfig(output_dir=str(out), **settings),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=list(QWEN2_PROJECTIONS), task_type="CAUSAL_LM"),
    )
    draw = torch.Generator().manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05
    return trainer


def laid_out(batch: Any) -> Layout:
    return build_layout(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])


def one_step(
    trainer: Prepared, shared: SharedPrefix | None = None
) -> tuple[float, dict[str, list[float]], dict[str, torch.Tensor]]:
    trainer.model.train()
    trainer.model.zero_grad()
    trainer._metrics["train"].clear()
    batch = next(iter(trainer.get_train_dataloader()))
    with shared.packed(laid_out(batch)) if shared else contextlib.nullcontext():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), dict(trainer._metrics["train"]), gradients


def assert_parity(trainer: Prepared, *, cached: bool = False) -> None:
    """Compare with stock TRL, which always computes the reference online."""
    loss, metrics, gradients = one_step(trainer)
    shared = SharedPrefix(trainer.model.get_base_model())
    if cached:
        batch = trainer.data_collator(list(trainer.train_dataset))
        with shared.packed(laid_out(batch)):
            reference = trainer.compute_ref_log_probs(trainer.model, batch)
        for name, log_probs in zip(REFERENCE, reference, strict=True):
            trainer.train_dataset = trainer.train_dataset.add_column(name, log_probs.tolist())
        trainer.precompute_ref_logps = True
    our_loss, our_metrics, our_gradients = one_step(trainer, shared)
    metrics.pop("num_tokens")  # counts all tokens since the start
    assert_same_step((our_loss, our_metrics, our_gradients), (loss, metrics, gradients))
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())
    assert shared.packed_tokens < shared.padded_tokens


WAYS = list(itertools.product((False, True), repeat=3))
"""Gradient checkpointing, NF4, and a cached reference: off and on."""
MATRIX = [
    (loss, shape, count, WAYS[(place + count) % len(WAYS)])
    for place, (loss, shape) in enumerate(itertools.product(LOSSES, LENGTHS))
    for count in range(1, 9)
]
"""Every loss with every distribution of lengths and every number of pairs, each in one way; all ways for each of them
where HUBDPO_FULL_PARITY is set."""
if "HUBDPO_FULL_PARITY" in os.environ:
    MATRIX = list(itertools.product(LOSSES, LENGTHS, range(1, 9), WAYS))


def with_turns(data: Dataset) -> Dataset:
    """Give the answers of more than six tokens another turn inside, and one that starts alike on both sides."""
    sides = {f"{side}_context": [[2, len(ids) - 2] if len(ids) > 6 else [] for ids in data[f"{side}_ids"]]
             for side in ("chosen", "rejected")}  # fmt: skip
    alike = [ids[:3] + rest[3:] for ids, rest in zip(data["chosen_ids"], data["rejected_ids"], strict=True)]
    return Dataset.from_dict({**data.to_dict(), **sides, "rejected_ids": alike})


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid and sft"])
def test_parity_where_other_turns_stand_inside_answers(
    tiny_base: Path, tmp_path: Path, loss: str, cached: bool
) -> None:
    data = with_turns(pairs("skewed", 4))
    trainer = make_trainer(tiny_base, tmp_path, data, remove_unused_columns=False, **LOSSES[loss])
    trainer.data_collator = PairCollator(trainer.data_collator.pad_token_id)
    assert_parity(trainer, cached=cached)


def _name(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return "".join(letter for letter, on in zip("gnc", value, strict=True) if on) or "plain"


@pytest.mark.parametrize(("loss", "shape", "count", "way"), MATRIX, ids=_name)
def test_parity_with_stock_trl(
    tiny_base: Path, tmp_path: Path, loss: str, shape: str, count: int, way: tuple[bool, bool, bool]
) -> None:
    checkpointing, nf4, cached = way
    data = pairs(shape, count)
    trainer = make_trainer(tiny_base, tmp_path, data, nf4=nf4, gradient_checkpointing=checkpointing, **LOSSES[loss])
    assert_parity(trainer, cached=cached)


def test_qwen3_and_untied_heads_as_well(tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    config = Qwen3Config(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(base)
    for count, way in ((3, (True, True, True)), (5, (False, False, False))):
        checkpointing, nf4, cached = way
        trainer = make_trainer(base, tmp_path, pairs("skewed", count), nf4=nf4, gradient_checkpointing=checkpointing)
        assert_parity(trainer, cached=cached)


def test_a_prefix_is_packed_once() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 0], [5, 6, 9, 0, 0]])
    layout = build_layout(ids, (ids > 0).long(), (ids > 0).long())
    assert layout.input_ids[0].tolist() == [5, 6, 7, 8, 9]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 2]]


def test_a_rejected_answer_that_begins_the_chosen_one_needs_no_branch() -> None:
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]])
    layout = build_layout(ids, (ids > 0).long(), (ids > 0).long())
    assert layout.input_ids[0].tolist() == [5, 6, 7, 8]
    assert layout.counts.tolist() == [[2, 2, 2, 1]]


def varlen(
    q: Any, k: Any, v: Any, q_bounds: Any, k_bounds: Any, longest_q: int, longest_k: int, scale: Any, window_size: Any
) -> Any:
    """What torch.nn.attention.varlen computes, which runs on CUDA alone: sequences aligned at their last key.

    The window counts keys before and after the query's own, -1 for all (torch/nn/attention/varlen.py).
    """
    before, after = window_size
    assert after == 0
    answers = []
    for (q0, q1), (k0, k1) in zip(
        *(itertools.pairwise(bounds.tolist()) for bounds in (q_bounds, k_bounds)), strict=True
    ):
        assert q1 - q0 <= longest_q and k1 - k0 <= longest_k
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril(k1 - k0 - q1 + q0)
        if before >= 0:
            mask = mask.triu(k1 - k0 - q1 + q0 - before)
        one, two, three = (states.transpose(0, 1) for states in (q[q0:q1], k[k0:k1], v[k0:k1]))
        answer = torch.nn.functional.scaled_dot_product_attention(one, two, three, mask, scale=scale, enable_gqa=True)
        answers.append(answer.transpose(0, 1))
    return torch.cat(answers)


def of_torch_2_11(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *, return_aux: Any = None,
    scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
) -> Any:  # fmt: skip
    assert key.shape[1] == query.shape[1]
    return varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window_size)


def of_torch_2_13(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *, return_aux: Any = None,
    scale: float | None = None, window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False, **more: Any,
) -> Any:  # fmt: skip
    assert enable_gqa or key.shape[1] == query.shape[1]
    return varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window_size)


def test_the_installed_torch_has_the_varlen_signature() -> None:
    names = list(inspect.signature(torch.nn.attention.varlen.varlen_attn).parameters)
    known = list(inspect.signature(of_torch_2_11).parameters)
    assert names[:7] == known[:7]
    assert set(known) <= set(names)


@pytest.mark.parametrize("kernel", [of_torch_2_11, of_torch_2_13])
@pytest.mark.parametrize("heads", [(4, 2), (4, 4)], ids=["grouped heads", "equal heads"])
@pytest.mark.parametrize("window", [None, 1, 16])
@pytest.mark.parametrize("shape", LENGTHS)
def test_the_varlen_call_is_the_attention_of_the_branches(
    shape: str, window: int | None, heads: tuple[int, int], kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", kernel)
    rows = list(pairs(shape, 8))
    sides = [torch.tensor(row["prompt_ids"] + row[side]) for side in ("chosen_ids", "rejected_ids") for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(sides, batch_first=True)
    layout = build_layout(ids, (ids > 0).long(), (ids > 0).long())
    tokens = layout.input_ids.numel()
    draw = torch.Generator().manual_seed(5)
    states = [torch.randn(1, count, tokens, 16, generator=draw) for count in (*heads, heads[1])]
    module = torch.nn.Module()
    module.num_key_value_groups = heads[0] // heads[1]
    expected = attention.attend_by_branch(sdpa_attention_forward, module, *states, layout, window, scaling=0.25)
    # each number is a mean of values, weighted by the softmax
    found = attention.attend_varlen(*states, layout, window, 0.25)
    assert_near(found, expected, share=1e-5, scale=states[2].abs().max())


@pytest.mark.parametrize(
    ("capability", "dtype", "dims", "lacks"),
    [
        ((9, 0), torch.bfloat16, (128, 128), ""),
        ((7, 5), torch.float16, (128, 128), "compute capability 8.0"),
        ((9, 0), torch.float32, (128, 128), "16-bit states"),
        ((9, 0), torch.bfloat16, (512, 512), "heads of 256"),
        ((9, 0), torch.bfloat16, (192, 128), "values as wide as keys"),
    ],
)
def test_a_gpu_without_flash_attention_runs_pair_by_pair_and_warns(
    capability: Any, dtype: Any, dims: tuple[int, int], lacks: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    attention.flash_takes.cache_clear()
    assert attention.flash_takes(torch.device("cuda", 0), dtype, *dims) is not bool(lacks)
    assert lacks in capsys.readouterr().err
    attention.flash_takes.cache_clear()


def test_forward_passes_outside_packed_are_not_affected(tiny_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    ids = torch.arange(20)[None] + 10
    with torch.no_grad():
        before = model(input_ids=ids).logits
        shared = SharedPrefix(model)
        after = model(input_ids=ids).logits
    assert torch.equal(before, after)
    assert shared.packed_tokens == 0
