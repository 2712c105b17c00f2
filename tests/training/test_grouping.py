"""Pairs of one prompt in one pass: each prompt and each answer runs once, and the step is that of the same pairs."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from families import QWEN2_PROJECTIONS
from test_shared_prefix import make_trainer as stock_trainer
from test_shared_prefix import one_step
from test_token_budget import config_for
from transformers import AutoTokenizer

from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows, sequence
from hubdpo.errors import ConfigError
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.batch import PairCollator
from hubdpo.training.step.grouping import Groups, GroupSampler, together
from hubdpo.training.step.layout import build_layout, trie_tokens
from hubdpo.training.step.passes import Limit, closest_first, cut_into_passes, in_as_many, packed_tokens
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer
from tests.near import assert_same_step


def all_pairs(answers: int, *, prompts: int = 1, seed: int = 0, alike: int = 0) -> list[dict[str, list[int]]]:
    """All pairs of several answers to each prompt; the answers of a prompt begin with the same `alike` tokens."""
    draw = np.random.default_rng(seed)

    def ids(least: int, most: int) -> list[int]:
        return draw.integers(10, 400, draw.integers(least, most)).tolist()

    rows = []
    for _ in range(prompts):
        prompt, beginning = ids(3, 40), draw.integers(10, 400, alike).tolist()
        written = [beginning + ids(2, 30) for _ in range(answers)]
        rows += [
            {"prompt_ids": prompt, "chosen_ids": one, "rejected_ids": other}
            for one, other in itertools.combinations(written, 2)
        ]
    return rows


def trainer_for(base: Path, out: Path, rows: list[dict[str, Any]], **options: Any) -> SharedPrefixDPOTrainer:
    config = config_for(out, **{"per_device_train_batch_size": len(rows), "gradient_checkpointing": False, **options})
    torch.manual_seed(0)
    data = TokenRows.of(rows)
    trainer = make_trainer(
        config, load_base(base, device="cpu", load_in_4bit=False), AutoTokenizer.from_pretrained(base), data, data,
        device="cpu", steps=1, callbacks=[],
    )  # fmt: skip
    draw = torch.Generator().manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05
    return trainer


def grouped_step(trainer: SharedPrefixDPOTrainer) -> Any:
    trainer.create_optimizer()
    loader = trainer.get_train_dataloader()
    batches, _ = trainer.get_batch_samples(iter(loader), len(loader), torch.device("cpu"))
    trainer.current_gradient_accumulation_steps = len(batches)
    loss = sum(trainer.training_step(trainer.model, batch).item() for batch in batches)
    trainer.read_metrics()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss, dict(trainer._metrics["train"]), gradients


CASES = {
    "four answers": all_pairs(4, prompts=2),
    "seven answers that begin alike": all_pairs(7, alike=9),
    "two answers of many prompts": all_pairs(2, prompts=5),
    "a pair twice": all_pairs(3) + all_pairs(3)[:1],
    "an answer that begins another": [
        {"prompt_ids": [11, 12], "chosen_ids": [13, 14, 15], "rejected_ids": [13, 14]},
        {"prompt_ids": [11, 12], "chosen_ids": [13, 14, 15], "rejected_ids": [16]},
    ],
    "turns inside an answer": [
        {**row, "chosen_context": [1, 2], "rejected_context": []} if i % 2 else row
        for i, row in enumerate(
            {**row, "chosen_context": [], "rejected_context": []} for row in all_pairs(4, prompts=2, alike=3)
        )
    ],
}


@pytest.mark.parametrize("loss", [["sigmoid"], ["ipo", "sft"]], ids="+".join)
@pytest.mark.parametrize("case", CASES)
def test_a_grouped_step_is_stock_trls_over_the_same_pairs(
    tiny_base: Path, tmp_path: Path, case: str, loss: list[str]
) -> None:
    rows = CASES[case]
    stock = stock_trainer(
        tiny_base, tmp_path, Dataset.from_list(rows), loss_type=loss, remove_unused_columns=False,
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
    )  # fmt: skip
    stock.data_collator = PairCollator(stock.data_collator.pad_token_id)
    expected = one_step(stock)
    expected[1].pop("num_tokens")
    for limit in (
        {"per_device_train_batch_size": len(rows)},
        {"tokens_per_batch": 256},
        {"per_device_train_batch_size": 2},
    ):
        pairs = limit.get("per_device_train_batch_size", len(rows))
        ours = trainer_for(
            tiny_base, tmp_path, rows, group_prompts=True, loss_type=loss, lora_r=4, lora_alpha=8,
            lora_target_modules=list(QWEN2_PROJECTIONS), gradient_checkpointing=True,
            gradient_accumulation_steps=-(-len(rows) // pairs), **limit,
        )  # fmt: skip
        found = grouped_step(ours)
        found[1].pop("num_tokens")
        assert_same_step(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_every_token_after_what_precedes_it_runs_once(case: str) -> None:
    rows = list(TokenRows.of(CASES[case]))
    batch = PairCollator(0)(rows)
    layout = build_layout(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    sequences = [tuple(sequence(row, side).tolist()) for row in rows for side in ("chosen", "rejected")]
    prefixes = {each[: stop + 1] for each in sequences for stop in range(len(each))}
    assert layout.input_ids.numel() == len(prefixes) == trie_tokens([np.array(each) for each in sequences])
    assert sorted(layout.counts[0].tolist()) == sorted(
        Counter(each[: stop + 1] for each in sequences for stop in range(len(each))).values()
    )
    for branch in layout.branches:  # its keys are the tokens of one sequence, from its beginning
        spans = (*branch.before, (branch.start, branch.stop))
        keys = [place for span in spans for place in range(*span)]
        assert layout.position_ids[0][keys].tolist() == [*range(len(keys))]
        assert tuple(layout.input_ids[0][keys].tolist()) in prefixes


def test_the_head_runs_each_scored_token_once() -> None:
    rows = list(TokenRows.of(all_pairs(4)))
    batch = PairCollator(0)(rows)
    layout = build_layout(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    answers = {tuple(row[f"{side}_ids"].tolist()) for row in rows for side in ("chosen", "rejected")}
    assert len(layout.labels) == trie_tokens([np.array(each) for each in answers])
    assert len(layout.spread) == int(batch["completion_mask"].sum())


def test_six_pairs_of_four_answers_run_four(tiny_base: Path, tmp_path: Path) -> None:
    rows = all_pairs(4)
    trainer = trainer_for(tiny_base, tmp_path, rows, group_prompts=True)
    grouped_step(trainer)
    assert trainer.shared_prefix is not None
    answers = {tuple(row[name]) for row in rows for name in ("chosen_ids", "rejected_ids")}
    # policy and reference
    assert trainer.shared_prefix.packed_tokens <= 2 * (len(rows[0]["prompt_ids"]) + sum(map(len, answers)))


def test_prompts_under_one_system_message_share_it() -> None:
    system = list(range(100, 130))
    rows = [{**row, "prompt_ids": [*system, *row["prompt_ids"]]} for row in all_pairs(2, prompts=4)]
    assert packed_tokens(rows) <= sum(packed_tokens([row]) for row in rows) - 3 * len(system)


@pytest.mark.parametrize("answers", range(2, 9))
def test_the_first_pairs_of_a_prompt_have_few_answers(answers: int) -> None:
    pairs = list(itertools.combinations(range(answers), 2))
    shuffled = [pairs[place] for place in np.random.default_rng(answers).permutation(len(pairs))]
    ordered = [shuffled[place] for place in closest_first(shuffled)]
    assert sorted(ordered) == sorted(pairs)
    for count in range(1, len(pairs) + 1):
        held = len({answer for pair in ordered[:count] for answer in pair})
        assert (held - 1) * (held - 2) / 2 < count  # all pairs of fewer answers are not enough


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
def test_a_pass_has_no_more_answers_than_as_many_pairs_of_their_own(pairs: int) -> None:
    rows = list(TokenRows.of(all_pairs(5, prompts=3)))
    passes = cut_into_passes(rows, Limit(pairs=pairs), packed=True)
    assert sorted(pair for part in passes for pair in part) == [*range(len(rows))]
    for part in passes:
        held = {(rows[pair][side].tobytes(), rows[pair]["prompt_ids"].tobytes()) for pair in part
                for side in ("chosen_ids", "rejected_ids")}  # fmt: skip
        assert len(held) <= 2 * pairs


@pytest.mark.parametrize("limit", [Limit(pairs=2), Limit(tokens=200)], ids=["pairs", "tokens"])
def test_the_pairs_of_a_prompt_meet_in_a_pass(limit: Limit) -> None:
    rows = all_pairs(4, prompts=5)
    mixed = list(TokenRows.of([rows[place] for place in np.random.default_rng(0).permutation(len(rows))]))
    passes = cut_into_passes(mixed, limit, packed=True)
    prompts = [{mixed[pair]["prompt_ids"].tobytes() for pair in part} for part in passes]
    assert sum(map(len, prompts)) == 5


def test_passes_are_cut_to_the_number_of_another_process() -> None:
    assert in_as_many([[0, 1, 2], [3]], 3) == [[0, 1], [3], [2]]
    assert in_as_many([[0], [1]], 1) == [[0], [1]]
    assert in_as_many([[0], [1]], 3) == [[0], [1], []]  # a pair cannot be cut
    assert in_as_many([], 1) == [[]]
    assert cut_into_passes([], Limit(pairs=2), packed=True) == []


def sampler_of(rows: list[dict[str, Any]], pairs: int, seed: int = 0) -> GroupSampler:
    return GroupSampler(Groups(TokenRows.of(rows)), pairs=pairs, seed=seed)


@pytest.mark.parametrize("pairs", [4, 6, 7, 16])
def test_an_epoch_has_every_pair_once_in_steps_of_one_size(pairs: int) -> None:
    rows = all_pairs(4, prompts=7) + all_pairs(2, prompts=9, seed=1) + all_pairs(7, prompts=2, seed=2)
    steps = list(sampler_of(rows, pairs).steps())
    assert sorted(row for step in steps for row in step) == [*range(len(rows))]
    assert {len(step) for step in steps[:-1]} == {pairs}


def test_prompts_stay_whole_where_they_fit() -> None:
    rows = all_pairs(3, prompts=20) + all_pairs(2, prompts=20, seed=1)
    assert sampler_of(rows, 4).cut() == 0
    assert sampler_of(all_pairs(4, prompts=10), 16).cut() > 0  # two whole prompts, and four pairs of a third
    assert sampler_of(all_pairs(4, prompts=10), 12).cut() == 0


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    rows = all_pairs(4, prompts=9)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        sampler = sampler_of(rows, 8, seed)
        sampler.set_epoch(epoch)
        orders.append([*sampler])
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


def test_a_held_out_split_is_put_together_and_otherwise_keeps_its_order() -> None:
    rows = all_pairs(3, prompts=3)
    mixed = [rows[place] for place in (0, 3, 6, 1, 4, 7, 2, 5, 8)]
    found = [row["row"] for row in together(TokenRows.of(mixed))]
    assert [place % 3 for place in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    alone = TokenRows.of(all_pairs(2, prompts=5))
    assert [row["row"] for row in together(alone)] == [*range(5)]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"shared_prefix": False}, "needs --shared-prefix"), ({"loss_type": ["aot"]}, "compares all pairs")],
)
def test_what_cannot_be_grouped_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_for(tmp_path, group_prompts=True, **options)


def test_a_resumed_run_keeps_its_grouping() -> None:
    from hubdpo.config.roles import Role

    assert "group_prompts" in TrainConfig.names(Role.WEIGHTS)
