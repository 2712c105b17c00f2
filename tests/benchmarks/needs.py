"""Write the table of each README for people who ask whether a training fits their card, from gpu.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README, README_ZH = ROOT / "README.md", ROOT / "README.zh.md"
PAIRS = 10_000


@dataclass(frozen=True)
class Needs:
    """The words of the table in one language. `ways` are its rows, by the arms of gpu.json."""

    head: str
    minutes: str
    note: str
    ways: dict[str, str]


NEEDS = {
    README: Needs(
        head="| Qwen2-7B in NF4 | GPU memory | 10,000 pairs |",
        minutes="min",
        note="Measured on one {card} at the lengths of HH-RLHF, {tokens:.0f} tokens a pair with the prompt counted for "
        "each answer. Longer pairs take more of both.",
        ways={
            "hubdpo": "`hubdpo train`, which fills the memory of the card (`auto`)",
            "hubdpo --reference cached": "the same with `--reference cached`",
            "hubdpo --reference cached, all layers recomputed": "with `--reference cached --gradient-checkpointing`",
            "hubdpo, 8 pairs a pass, all layers recomputed": "with `--per-device-train-batch-size 8 "
            "--gradient-checkpointing`",
            "TRL defaults": "for comparison: TRL with its defaults",
        },
    ),
    README_ZH: Needs(
        head="| Qwen2-7B，NF4 | 显存 | 1 万个偏好对 |",
        minutes="分钟",
        note="在一张 {card} 上按 HH-RLHF 的长度测得：每对 {tokens:.0f} 个 token，prompt 在两个回答里各计一次。样本越"
        "长，显存和时间都越多。",
        ways={
            "hubdpo": "`hubdpo train`，自动占满显存（`auto`）",
            "hubdpo --reference cached": "同上，加 `--reference cached`",
            "hubdpo --reference cached, all layers recomputed": "加 `--reference cached --gradient-checkpointing`",
            "hubdpo, 8 pairs a pass, all layers recomputed": "加 `--per-device-train-batch-size 8 "
            "--gradient-checkpointing`",
            "TRL defaults": "对照：TRL 默认设置",
        },
    ),
}
"""By page."""


def needs_table(report: dict[str, Any], words: Needs) -> str:
    """Return Markdown of gpu.json: memory, and minutes for 10,000 pairs, of a 7B base."""
    arms = {arm["arm"]: arm for arm in report["arm"] if arm["ok"]}
    lines = [
        f"| {said} | {arms[name]['peak_gb']:.0f} GB | {PAIRS / arms[name]['pairs_per_s'] / 60:.0f} {words.minutes} |"
        for name, said in words.ways.items()
    ]
    tokens = arms["hubdpo"]["tokens_per_s"] / arms["hubdpo"]["pairs_per_s"]
    note = words.note.format(card=report["card"]["name"], tokens=tokens)
    return "\n".join([words.head, "|---|---:|---:|", *lines, "", note])
