"""Time steps on all pairs of several answers: TRL, hubdpo, and hubdpo with `--group-prompts`.

An epoch of PROMPTS prompts runs in each way, every pair once. Without groups, its pairs come as in a shuffled set of
many prompts: the pairs of a pass are of different prompts. With groups, hubdpo's own sampler draws steps of STEP pairs.
A pass of either runs at most as many answers as `pairs` pairs have. TRL's batches are the shuffled ones, and at its
best those of like length. Where there are many batches, some at even distances are timed; TRL's once, as they take long
and vary little.

Losses and gradients of COMPARED pairs are compared with those of the same pairs one by one, and in TRL's way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.data.encoded.rows import Row
from hubdpo.training.step.grouping import GroupSampler
from hubdpo.training.step.passes import Limit
from tests.benchmarks.pair_data import GROUPED, apart, by_length, prompts
from tests.benchmarks.train_steps import SETTINGS, Arm
from tests.benchmarks.train_steps import apart as relative

PROMPTS, STEP, REPEATS, COMPARED = 8, 32, 2, 16
Steps = list[list[list[Row]]]
"""The batches of each step."""


def measure_all(base: Path, out: Path, pairs: int) -> list[dict[str, Any]]:
    return [_measure(base, out, shape, setting, pairs) for shape in GROUPED for setting in SETTINGS]


def _measure(base: Path, out: Path, shape: str, setting: str, pairs: int) -> dict[str, Any]:
    groups = prompts(shape, PROMPTS)
    options = {
        "per_device_train_batch_size": pairs, "gradient_accumulation_steps": STEP // pairs, "load_in_4bit": False,
        "group_prompts": True, **SETTINGS[setting],
    }  # fmt: skip
    arm = Arm(base, out, [row for group in groups for row in group], options)
    size = GROUPED[shape].pairs
    by_prompt = [arm.rows[start : start + size] for start in range(0, len(arm.rows), size)]
    shuffled = apart(by_prompt, pairs)
    trls = by_length(arm.rows, pairs) if setting == "best" else shuffled
    sampler = GroupSampler(arm.trainer.groups, pairs=STEP, seed=0)
    grouped: Steps = [[[arm.rows[index] for index in step]] for step in sampler.steps()]
    ungrouped: Steps = [[batch] for batch in _some(shuffled, 10)]
    whole = Limit(pairs=pairs)

    seconds: dict[str, float] = {}  # of a pair
    tokens: dict[str, float] = {}
    shared = arm.parts.shared_prefix
    for _ in range(REPEATS):
        for name, steps, limit in (("hubdpo", ungrouped, Limit()), ("grouped", grouped, whole)):
            _as_hubdpo(arm, limit)
            shared.packed_tokens = 0
            spent = sum(arm.step(step).seconds for step in steps) / _pairs(steps)
            seconds[name] = min(spent, seconds.get(name, spent))
            tokens[name] = shared.packed_tokens / _pairs(steps)
    _as_trl(arm)
    trl: Steps = [[batch] for batch in _some(trls, 4)]
    seconds["TRL"] = sum(arm.step(step).seconds for step in trl) / _pairs(trl)

    rate = {name: round(1 / spent, 2) for name, spent in seconds.items()}
    return {
        "lengths": shape, "setting": setting, "answers": GROUPED[shape].answers, "pairs_a_prompt": size,
        "trl_pairs_per_s": rate["TRL"], "hubdpo_pairs_per_s": rate["hubdpo"], "grouped_pairs_per_s": rate["grouped"],
        "over_hubdpo": round(seconds["hubdpo"] / seconds["grouped"], 2),
        "over_trl": round(seconds["TRL"] / seconds["grouped"], 2),
        "tokens_ratio": round(tokens["hubdpo"] / tokens["grouped"], 2),
        **_differences(arm, grouped[0][0][:COMPARED], pairs),
    }  # fmt: skip


def _differences(arm: Arm, rows: list[Row], pairs: int) -> dict[str, float]:
    """Return how far loss and gradients of a grouped step are from those of the same pairs in other ways."""
    _as_hubdpo(arm, Limit(pairs=pairs))
    loss, grouped = arm.step([rows]).loss, arm.gradients()
    _as_hubdpo(arm, Limit(pairs=1))
    one_by_one = arm.step([rows]).loss, arm.gradients()
    _as_trl(arm)
    by_trl = arm.step([rows[start : start + pairs] for start in range(0, len(rows), pairs)]).loss, arm.gradients()
    return {
        f"{what}_from_{where}": value
        for where, (other, gradients) in (("one_by_one", one_by_one), ("trl", by_trl))
        for what, value in (("loss", abs(loss - other)), ("gradient", relative(grouped, gradients)))
    }


def _some(batches: list[list[Row]], most: int) -> list[list[Row]]:
    """Return at most so many batches, at even distances."""
    distance = -(-len(batches) // most)
    return batches[distance // 2 :: distance]


def _pairs(steps: Steps) -> int:
    return sum(len(batch) for step in steps for batch in step)


def _as_hubdpo(arm: Arm, limit: Limit) -> None:
    arm.parts.use(packed=True, fused=True)
    arm.trainer.limit = limit


def _as_trl(arm: Arm) -> None:
    arm.parts.use(packed=False, fused=False)
    arm.trainer.limit = Limit()
