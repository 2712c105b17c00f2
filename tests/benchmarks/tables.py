"""Write the tables of README and docs from the measurements of the benchmarks."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.needs import NEEDS, needs_table

HERE = Path(__file__).parent
MEASUREMENTS = HERE.parents[1] / "docs" / "explanation" / "measurements.md"


def prepare_table(report: dict[str, Any]) -> str:
    """Return Markdown of prepare.json: rows per second compared with the usual way, memory and tokens."""
    size = report["shapes"][0]["megabytes"]
    lines = [
        f"| {size} MB of | usual rows/s | hubdpo rows/s | speed-up | usual peak memory | hubdpo peak memory |",
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
            f"For comparison, only parsing each line and writing its texts as Parquet is {floors} times as fast as the "
            "usual way (`tests/benchmarks/floor.py`)."
        )
    if memory := report["memory"]:
        small, large = memory["megabytes"]
        peaks = memory["peak_mb"]
        notes.append(f"Peak memory with {small:,} and {large:,} MB of input: {peaks[0]:,} and {peaks[1]:,} MB.")
    if tokens := report["tokens"]:
        notes.append(
            f"Tokenisation with Qwen2's tokenizer: {tokens['hubdpo_pairs_per_cpu_s']:,} pairs per CPU second, "
            f"{tokens['ratio']} times as fast as TRL; {tokens['differing']} of {tokens['pairs']:,} pairs differ."
        )
    return "\n".join([*lines, "", *notes])


def train_table(report: dict[str, Any]) -> str:
    """Return Markdown of train.json: pairs per second compared with stock TRL and LLaMA-Factory."""
    lines = [
        "| lengths | compared with | fewer tokens | its pairs/s | hubdpo pairs/s | speed-up | memory for backward |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in report["results"]:
        kept = f"{row['peer_kept_mb']:,} → {row['hubdpo_kept_mb']:,} MB" if row["peer_kept_mb"] else ""
        lines.append(
            f"| {row['lengths']} | {row['peer']} | {row['tokens_ratio']} | {row['peer_pairs_per_s']} | "
            f"{row['hubdpo_pairs_per_s']} | {row['speed_ratio']} | {kept} |"
        )
    differences = max(row["largest_loss_difference"] for row in report["results"])
    environment = report["environment"]
    notes = [
        f"{report['results'][0]['pairs']} pairs a step, {environment['model']}, "
        f"CPU time of forward and backward pass (threads: {environment['cpu_threads']}); "
        f"the losses differ by at most {differences:.0e}.",
        "On CUDA, TRL's head also scores only tokens with a label; on the CPU it scores all tokens.",
        "Speed-up of hubdpo with a cached reference and no checkpointing over TRL's defaults: "
        + ", ".join(f"{row['lengths']} {row['over_defaults']}" for row in report["results"] if "over_defaults" in row)
        + ".",
    ]
    if environment["llama_factory"]:
        notes.append(f"LLaMA-Factory caches no reference; its trainer ran beside, with {environment['llama_factory']}.")
    return "\n".join([*lines, "", *notes, "", *_groups_table(report), "", *_options_table(report)])


def _groups_table(report: dict[str, Any]) -> list[str]:
    groups = report["groups"]
    lines = [
        "| all pairs of a prompt | settings | TRL pairs/s | hubdpo | `--group-prompts` | over hubdpo | over TRL |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['lengths']}, {row['answers']} answers | {row['setting']} | {row['trl_pairs_per_s']} | "
        f"{row['hubdpo_pairs_per_s']} | {row['grouped_pairs_per_s']} | {row['over_hubdpo']} | {row['over_trl']} |"
        for row in groups
    ]
    loss, gradient = (max(row[f"{what}_from_trl"] for row in groups) for what in ("loss", "gradient"))
    return [
        *lines,
        "",
        "The same pairs, shuffled or by prompt; Nectar's lengths are assumed. On the same step, losses differ from "
        f"TRL's by at most {loss:.0e}, gradients by {gradient:.0e} of their size.",
    ]


def _options_table(report: dict[str, Any]) -> list[str]:
    options = report["options"]
    stock, plain, *others = options
    lines = [
        f"| {stock['lengths']}, NF4 | pairs/s | speed-up over TRL | over hubdpo | memory for backward |",
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
        f"Steps of {report['pairs_a_step']} pairs, {report['results'][0]['pairs']} a pass. Each option is compared "
        f"with hubdpo's defaults, which checkpoint all {report['layers']} layers; the losses differ by at most "
        f"{most:.0e}.",
    ]


def gpu_table(report: dict[str, Any]) -> str:
    """Return Markdown of gpu.json: pairs per second of a 7B base on a GPU, compared with stock TRL."""
    arms = {arm["arm"]: arm for arm in report["arm"] if arm["ok"]}
    stock, peak = arms["TRL defaults"], report["matmul_tflops"]
    lines = [
        "| Qwen2-7B in NF4, HH-RLHF-like lengths | pairs/s | speed-up | TFLOP/s | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, arm in arms.items():
        name = re.sub(r"(--[a-z-]+(?: cached)?)", r"`\1`", name)
        lines.append(
            f"| {name} | {arm['pairs_per_s']} | {stock['seconds'] / arm['seconds']:.2f} | {arm['tflops']:.0f} | "
            f"{arm['peak_gb']:.1f} GB |"
        )
    card, versions, auto = report["card"], report["versions"], report["auto"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl", "peft", "bitsandbytes"))
    return "\n".join(
        [
            *lines,
            "",
            f"Steps of 32 pairs, random weights; {card['name']}, CUDA {card['cuda']}, {names}. The card reaches "
            f"{peak:.0f} TFLOP/s in a bfloat16 matrix product. `auto` chose {auto['tokens_per_batch']:,} tokens a pass "
            f"and {auto['checkpoint_layers']} layers to recompute.",
        ]
    )


def push_table(report: dict[str, Any]) -> str:
    """Return Markdown of push.json: the cost of a verified release compared with a bare upload."""
    lines = [
        f"| an adapter of {report['adapter_mb']:.0f} MB | by | seconds | requests | MB sent | MB downloaded |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['way']} | {row['by']} | {row['seconds']:.1f} | {row['requests']} | {row['sent_mb']:.1f} | "
        f"{row['read_mb']:.1f} |"
        for row in report["results"]
    ]
    versions = report["versions"]
    note = (
        f"Best of {report['rounds']} interleaved rounds on {report['machine']}, huggingface_hub "
        f"{versions['huggingface_hub']}, hf_xet {versions['hf_xet']}; base {report['base']}."
    )
    return "\n".join([*lines, "", note])


def memory_table(report: dict[str, Any]) -> str:
    """Return Markdown of memory.json: CPU seconds and memory before the first step, before and after."""
    lines = [
        "| pairs of 450 tokens | reference | start | CPU s | CPU s before | memory | of it mapped | memory before |",
        "|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    before = {(row["pairs"], row["reference"], row["start"]): row for row in report["before"]}
    for row in report["results"]:
        old = before.get((row["pairs"], row["reference"], row["start"]))
        cpu, memory = (f"{old['cpu_s']:.0f}", f"{old['above_peak_mb']:,} MB") if old else ("–", "–")
        mapped = max(row["above_peak_mb"] - row["above_anonymous_mb"], 0)
        lines.append(
            f"| {row['pairs']:,} | {row['reference']} | {row['start']} | {row['cpu_s']:.0f} | {cpu} | "
            f"{row['above_peak_mb']:,} MB | {mapped:,} MB | {memory} |"
        )
    worker = max(row["worker_mb"] for row in report["results"])
    note = (
        "CPU time of all processes from the imports to the first step, with loading a tiny base and trying its longest "
        "pair; peak memory of the training process above that of a run on 100 pairs, give or take 0.1 GB, and the part "
        f"of it that is pages of files. A worker that tokenises takes {worker:,} MB, most of it shared with others. "
        f"{report['machine']}, {report['tokenizer']} tokenizer. The cached reference is planted: computing it takes "
        "the time of the model."
    )
    if quiet := report.get("quiet"):  # one child by itself, on cores that did nothing else
        cold, warm = ({row["start"]: row for row in quiet}[start] for start in ("cold", "warm"))
        note += (
            f" With nothing else running, {cold['pairs']:,} pairs took {cold['seconds']:.0f} s from a cold start and "
            f"{warm['seconds']:.0f} s from the cache, beside {warm['libraries_s'] + warm['model_s']:.0f} s for "
            "libraries and model."
        )
    return "\n".join([*lines, "", note])


def sweep_table(report: dict[str, Any]) -> str:
    """Return Markdown of sweep.json: CPU seconds of a sweep and of separate runs, for short and for longer ones."""
    heads = ["steps of a run", "held-out pairs", *(f"`{w['way']}`" for w in report["sizes"][0]["ways"]), "times fewer"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads)]
    for size in report["sizes"]:
        *apart, together = size["ways"]
        cells = [size["steps"], size["held_out"], *(f"{w['cpu_s']} s" for w in (*apart, together))]
        lines.append(f"| {' | '.join(map(str, cells))} | {' and '.join(str(w['times_fewer']) for w in apart)} |")
    equal, runs = (sum(size[key] for size in report["sizes"]) for key in ("equal_runs", "runs"))
    note = (
        f"CPU seconds of six runs; base {report['base']}; {report['machine']}. {equal} of {runs} runs of the sweeps "
        "have adapter, loss and scores of `train --reference cached`, bit for bit. Steps cannot be shared, so short "
        "runs save the most."
    )
    return "\n".join([*lines, "", note])


def storm_text(report: dict[str, dict[str, int]]) -> str:
    """Return the summary of a full `make storm`, from storm.json."""
    kills = sum(figures["kills"] for name, figures in report.items() if name.startswith("SIGKILL"))
    ends = [figures for name, figures in report.items() if name.startswith("publishes")]
    published, all_ends = sum(f.get("0", 0) for f in ends), sum(sum(f.values()) for f in ends)
    faults = sum(sum(figures.values()) for name, figures in report.items() if name.startswith("faults"))
    races = sum(sum(figures.values()) for name, figures in report.items() if name.startswith("races"))
    return (
        f"`make storm` killed `push` {kills} times, before and after each of its requests, by LFS and by Xet; "
        f"injected {faults:,} Hub failures into {all_ends} publishes, of which {published} succeeded and the others "
        f"reported the failure; and ran {races} races. After each kill and failure, the same command completed the "
        "release. No tag moved, no release was committed twice, and everything reported as published was there, byte "
        "for byte."
    )


def view_table(report: dict[str, Any]) -> str:
    """Return Markdown of view.json: seconds to a page, by the number of pairs."""
    rows = {
        "first page, after the start": "first_page_s",
        "any other page of pairs": "page_s",
        "search for a text that no pair has": "rare_search_s",
        "search for a common word": "common_search_s",
        "filter by length": "filter_s",
        "dropped rows, as many as pairs": "dropped_s",
        "dropped rows of one reason": "dropped_reason_s",
        "start of the server": "start_s",
        "until all rows are known (in the background)": "index_s",
    }
    results = report["results"]
    lines = [
        "| seconds | " + " | ".join(f"{row['pairs']:,} pairs" for row in results) + " |",
        "|---|" + "---:|" * len(results),
    ]
    lines += [f"| {label} | " + " | ".join(f"{row[key]:g}" for row in results) + " |" for label, key in rows.items()]
    lines.append("| peak memory | " + " | ".join(f"{row['peak_mb']} MB" for row in results) + " |")
    return "\n".join([*lines, "", f"Measured on {report['machine']}."])


def put(name: str, table: str, page: Path = MEASUREMENTS) -> None:
    """Replace a table in a page."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    page.write_text(place.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text), encoding="utf-8")


TABLES = {
    "prepare": prepare_table,
    "train": train_table,
    "push": push_table,
    "storm": storm_text,
    "memory": memory_table,
    "sweep": sweep_table,
    "view": view_table,
}


def put_gpu(report: dict[str, Any]) -> None:
    """Write what gpu.json has into the page of measurements, and its short form into each README."""
    put("gpu", gpu_table(report))
    for page, words in NEEDS.items():
        put("gpu-needs", needs_table(report, words), page)


if __name__ == "__main__":
    put_gpu(json.loads((HERE / "gpu.json").read_text(encoding="utf-8")))
    for name, table in TABLES.items():
        put(f"bench-{name}", table(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))))
    sys.stdout.write(f"wrote {', '.join(page.name for page in (*NEEDS, MEASUREMENTS))}\n")
