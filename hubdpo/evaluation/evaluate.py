"""The evaluate stage: a run folder in, eval.json and plots in the same folder out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, PROBES_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.model.plots import write_plots
from hubdpo.config import EvaluateConfig
from hubdpo.data.load import load_preferences
from hubdpo.evaluation.samples import with_samples
from hubdpo.evaluation.scoring import score_pairs
from hubdpo.model.bases.find import find_base
from hubdpo.model.bases.load import load_base
from hubdpo.model.device import pick_device
from hubdpo.model.pretrained import attach_adapter, read_tokenizer
from hubdpo.model.probes import compare_probes, record_probes
from hubdpo.model.room import room_for_base, room_for_scoring
from hubdpo.model.stopping import use_stops


def evaluate_on(config: EvaluateConfig, run: RunManifest, dataset: str, base_name: str) -> EvalReport:
    """Do as `hubdpo.evaluation.start.evaluate`, which comes first and finds base and dataset, this at its commit."""
    data = load_preferences(dataset)
    test = data["test"].select(range(min(len(data["test"]), config.max_pairs)))

    device = pick_device(config.device)
    base = find_base(base_name, None if "@" in base_name else run.base.revision)
    console.info(f"{len(test):,} held-out pairs, {run.base.name} on {device}")
    in_4bit, limit, pairs = run.config["load_in_4bit"], run.config["max_length"], config.per_device_eval_batch_size
    with room_for_base(load_in_4bit=in_4bit):
        model = load_base(base.folder, device=device, load_in_4bit=in_4bit)
        use_stops(model, run)
        adapted = attach_adapter(model, config.run_dir)
    tokenizer = read_tokenizer(base.folder, run.config.get("chat_template_kwargs"))
    with room_for_scoring(pairs, lambda fewer: _with_fewer(config, fewer)):
        _compare_or_record(config.run_dir, run, adapted, tokenizer)
        report = score_pairs(
            adapted, tokenizer, test, beta=run.config["beta"], max_length=limit,
            prompt_budget=run.config["max_prompt_length"] or limit // 2, batch_size=pairs,
        )  # fmt: skip
        report = with_samples(report, adapted, tokenizer)
    report.write(config.run_dir / EVAL_FILE)
    write_plots(config.run_dir)
    return report


def _with_fewer(config: EvaluateConfig, pairs: int) -> str:
    """Return the command that scores fewer pairs at a time, or where it is already one, without the GPU."""
    fewer = pairs < config.per_device_eval_batch_size
    return (
        f"hubdpo evaluate {shlex.quote(str(config.run_dir))} "
        f"{f'--per-device-eval-batch-size {pairs}' if fewer else '--device cpu'}"
    )


def _compare_or_record(folder: Path, run: RunManifest, model: Any, tokenizer: Any) -> None:
    """Compare with the probes of training, with a warning where they differ; record them for a run that has none."""
    place = folder / PROBES_FILE
    if not place.exists():
        record_probes(
            model, tokenizer, load_in_4bit=run.config["load_in_4bit"],
            template_kwargs=run.config.get("chat_template_kwargs"),
        ).write(place)  # fmt: skip
        return
    result = compare_probes(model, tokenizer, Probes.read(place))
    if not result.passed:
        console.warn(
            f"the adapter does not load as what was trained: log-probabilities differ by {result.mean_difference:.2g} "
            f"nats a token, {result.tolerance:g} at most; `hubdpo push` will refuse it"
        )
