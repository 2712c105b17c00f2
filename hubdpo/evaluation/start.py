"""The way into the evaluate stage: what needs neither weights nor torch is refused before either is loaded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hubdpo.artefacts.folders.kinds import read_run
from hubdpo.artefacts.folders.run_folder import alone_in, remembered_place
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import EvaluateConfig
from hubdpo.data.load import look_at_dataset
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.model.device import cuda_is_possible


def evaluate(config: EvaluateConfig | None = None, **options: Any) -> EvalReport:
    """Rank the held-out pairs with and without the adapter, on the base as it was quantised for training.

    Raise ArtefactError when the run is not complete or the dataset has no test split, ConfigError when base or dataset
    cannot be found any more or another process works in the folder, HubError when the Hub has no such dataset,
    TrainingError when memory runs out.
    """
    config = EvaluateConfig.given(config, options)
    with alone_in(config.run_dir) if config.run_dir.is_dir() else contextlib.nullcontext():
        return _evaluate(config)


def _evaluate(config: EvaluateConfig) -> EvalReport:
    run = read_run(config.run_dir)
    if config.device == "cuda" and not cuda_is_possible():
        raise ConfigError("no CUDA device is found", hint="hubdpo doctor, or use `--device cpu`")
    dataset = config.dataset or _dataset_of(config.run_dir, run)
    manifest, pinned = look_at_dataset(dataset)
    if not manifest.splits.get("test"):
        raise ArtefactError("the dataset has no test split", hint="hubdpo prepare SOURCE -o DIR --test-size 0.05")
    base = config.model_name_or_path or _base_of(config.run_dir, run)
    from hubdpo.evaluation.evaluate import evaluate_on

    return evaluate_on(config, run, pinned, base)


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
