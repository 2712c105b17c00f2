"""The evaluate stage: a run folder in, eval.json and plots in the same folder out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.config import EvaluateConfig
from hubdpo.data.load import load_preferences
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.base import load_base
from hubdpo.hub.bundle import read_run
from hubdpo.hub.probes import compare_probes, record_probes
from hubdpo.hub.stopping import use_stops
from hubdpo.manifest import EVAL_FILE, PROBES_FILE, EvalReport, Probes, RunManifest

console.quiet_libraries()  # before the libraries below are imported

from peft import PeftModel  # noqa: E402

from hubdpo.training.base import find_base  # noqa: E402
from hubdpo.training.model import load_tokenizer, pick_device  # noqa: E402
from hubdpo.training.plots import write_plots  # noqa: E402
from hubdpo.training.room import room_for_base, room_for_scoring  # noqa: E402
from hubdpo.training.run_folder import remembered_place  # noqa: E402
from hubdpo.training.samples import with_samples  # noqa: E402
from hubdpo.training.scoring import score_pairs  # noqa: E402


def evaluate(config: EvaluateConfig | None = None, **options: Any) -> EvalReport:
    """Rank the held-out pairs with and without the adapter, on the base as it was quantised for training.

    Raise ArtefactError when the run is not complete or the dataset has no test split, ConfigError when base or dataset
    cannot be found any more, TrainingError when memory runs out.
    """
    config = EvaluateConfig.given(config, options)
    run = read_run(config.run_dir)
    data = load_preferences(config.dataset or _dataset_of(config.run_dir, run))
    if "test" not in data:
        raise ArtefactError("the dataset has no test split", hint="hubdpo prepare SOURCE -o DIR --test-size 0.05")
    test = data["test"].select(range(min(len(data["test"]), config.max_pairs)))

    device = pick_device(config.device)
    given = config.model_name_or_path or _base_of(config.run_dir, run)
    base = find_base(given, None if "@" in given else run.base.revision)
    console.info(f"{len(test):,} held-out pairs, {run.base.name} on {device}")
    in_4bit, limit, pairs = run.config["load_in_4bit"], run.config["max_length"], config.per_device_eval_batch_size
    with room_for_base(load_in_4bit=in_4bit):
        model = load_base(base.folder, device=device, load_in_4bit=in_4bit)
        use_stops(model, run)
        adapted = PeftModel.from_pretrained(model, config.run_dir)
    tokenizer = load_tokenizer(base, run.config.get("chat_template_kwargs"))
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


def _dataset_of(folder: Path, run: RunManifest) -> str:
    if run.dataset.repo_id:
        return f"{run.dataset.repo_id}@{run.dataset.revision}"
    place = remembered_place(folder, "dataset")
    if place is None or not Path(place).is_dir():
        raise ConfigError(f"the dataset folder `{run.dataset.name}` is gone", hint="give it with `--dataset DIR`")
    return place


def _base_of(folder: Path, run: RunManifest) -> str:
    if run.base.repo_id:
        return run.base.repo_id
    place = remembered_place(folder, "model_name_or_path")
    if place is None or not Path(place).is_dir():
        raise ConfigError(f"the base folder `{run.base.name}` is gone", hint="give it with `--model-name-or-path DIR`")
    return place
