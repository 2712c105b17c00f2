"""Tables of the README, made from what the benchmarks measured."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"


def prepare_table(report: dict[str, Any]) -> str:
    """Return Markdown of prepare.json: rows per second beside the usual way, memory and tokens."""
    size = report["shapes"][0]["megabytes"]
    lines = [
        f"| {size} MB of | usual rows/s | hubdpo rows/s | faster by | usual peak | hubdpo peak |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for shape in report["shapes"]:
        usual, ours = shape["usual"], shape["hubdpo"]
        lines.append(
            f"| {shape['shape']} | {usual['rows_per_s']:,} | {ours['rows_per_s']:,} | {shape['ratio_work']} | "
            f"{usual['peak_mb']:,} MB | {ours['peak_mb']:,} MB |"
        )
    notes = [f"Measured on {report['machine']}."]
    if all("floor" in shape for shape in report["shapes"]):
        floors = ", ".join(str(shape["floor_ratio_work"]) for shape in report["shapes"])
        notes.append(
            f"Parsing each line and writing its texts as Parquet, and nothing else, is {floors} times as fast as the "
            "usual way (`tests/benchmarks/floor.py`)."
        )
    if memory := report["memory"]:
        small, large = memory["megabytes"]
        peaks = memory["peak_mb"]
        notes.append(f"Peak memory at {small:,} and {large:,} MB of input: {peaks[0]:,} and {peaks[1]:,} MB.")
    if tokens := report["tokens"]:
        notes.append(
            f"Pairs to token ids with the tokenizer of Qwen2: {tokens['hubdpo_pairs_per_cpu_s']:,} per CPU second, "
            f"{tokens['ratio']} times TRL's way, {tokens['differing']} of {tokens['pairs']:,} different."
        )
    return "\n".join([*lines, "", *notes])


def train_table(report: dict[str, Any]) -> str:
    """Return Markdown of train.json: pairs per second beside stock TRL."""
    lines = [
        "| lengths | beside | fewer tokens by | TRL pairs/s | hubdpo pairs/s | faster by | kept for backward |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in report["results"]:
        kept = f"{row['trl_kept_mb']:,} → {row['hubdpo_kept_mb']:,} MB"
        lines.append(
            f"| {row['lengths']} | {row['peer']} | {row['tokens_ratio']} | {row['trl_pairs_per_s']} | "
            f"{row['hubdpo_pairs_per_s']} | {row['speed_ratio']} | {kept} |"
        )
    differences = max(row["largest_loss_difference"] for row in report["results"])
    environment = report["environment"]
    notes = [
        f"{report['results'][0]['pairs']} pairs a step, {environment['model']}, "
        f"CPU seconds of forward and backward (threads: {environment['cpu_threads']}); "
        f"largest difference of a loss {differences:.0e}.",
        "On CUDA TRL's head, too, scores only tokens with a label; on the CPU it scores all.",
        "hubdpo with a cached reference and no checkpointing beside TRL's defaults: "
        + ", ".join(f"{row['lengths']} {row['over_defaults']}" for row in report["results"] if "over_defaults" in row)
        + ".",
    ]
    return "\n".join([*lines, "", *notes, "", *_options_table(report)])


def _options_table(report: dict[str, Any]) -> list[str]:
    options = report["options"]
    stock, plain, *others = options
    lines = [
        f"| {stock['lengths']}, NF4 | pairs/s | faster than TRL by | than hubdpo by | kept for backward |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in (stock, plain, *others):
        name = f"`{row['option']}`" if row["option"].startswith("--") else row["option"]
        beside = f"{row['pairs_per_s'] / plain['pairs_per_s']:.2f}"
        lines.append(f"| {name} | {row['pairs_per_s']} | {row['speed_ratio']} | {beside} | {row['kept_mb']:,} MB |")
    most = max(row["loss_difference"] for row in options)
    return [
        *lines,
        "",
        f"A step of {report['pairs_a_step']} pairs, {report['results'][0]['pairs']} a pass; each option alone beside "
        f"hubdpo's defaults, which checkpoint all {report['layers']} layers; largest difference of a loss {most:.0e}.",
    ]


def push_table(report: dict[str, Any]) -> str:
    """Return Markdown of push.json: what a verified release costs beside a bare upload."""
    lines = [
        f"| an adapter of {report['adapter_mb']:.0f} MB | by | seconds | requests | MB sent | MB read back |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['way']} | {row['by']} | {row['seconds']:.1f} | {row['requests']} | {row['sent_mb']:.1f} | "
        f"{row['read_mb']:.1f} |"
        for row in report["results"]
    ]
    versions = report["versions"]
    note = (
        f"Best of {report['rounds']}, taking turns, on {report['machine']}, huggingface_hub "
        f"{versions['huggingface_hub']}, hf_xet {versions['hf_xet']}; base {report['base']}."
    )
    return "\n".join([*lines, "", note])


def storm_text(report: dict[str, dict[str, int]]) -> str:
    """Return what a whole `make storm` counted, from storm.json."""
    kills = sum(figures["kills"] for name, figures in report.items() if name.startswith("SIGKILL"))
    ends = [figures for name, figures in report.items() if name.startswith("publishes")]
    published, all_ends = sum(f.get("0", 0) for f in ends), sum(sum(f.values()) for f in ends)
    faults = sum(sum(figures.values()) for name, figures in report.items() if name.startswith("faults"))
    races = sum(sum(figures.values()) for name, figures in report.items() if name.startswith("races"))
    return (
        f"`make storm` killed `push` {kills} times, before and after each of its requests, by LFS and by Xet; let "
        f"{all_ends} publishes meet {faults:,} failures of the Hub, of which {published} ended published and the "
        f"others said why not; and ran {races} races. After each kill and failure the same command finished what was "
        "left; no tag moved, no release was committed twice, and what was said to be published was there, byte for "
        "byte."
    )


def put(name: str, table: str) -> None:
    """Write a table into its place in the README."""
    text = README.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    README.write_text(place.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text), encoding="utf-8")


TABLES = {"prepare": prepare_table, "train": train_table, "push": push_table, "storm": storm_text}

if __name__ == "__main__":
    for name, table in TABLES.items():
        put(f"bench-{name}", table(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))))
    sys.stdout.write(f"wrote {README.name}\n")
