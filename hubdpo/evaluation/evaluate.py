"""The evaluate stage: a run folder in; eval.json, the scores of each pair and plots in the same folder out.

Imports no torch by itself.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.artefacts.folders.kinds import EVALUATED_FILES, entries_of, read_run
from hubdpo.artefacts.folders.run_folder import alone_in, remembered_folder
from hubdpo.artefacts.formats.pair_scores import to_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import (
    EVAL_FILE,
    EVAL_PAIRS_FILE,
    PROBES_FILE,
    RUN_FILE,
    file_entry,
    write_atomic,
)
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.model.plots import write_plots
from hubdpo.config import EvaluateConfig
from hubdpo.config.objective import uses_reference
from hubdpo.config.repo_id import is_repo_id
from hubdpo.config.takes import takes
from hubdpo.data.encoded.encoded import encoded
from hubdpo.data.encoded.encoding import Encoding
from hubdpo.data.load import look_at_dataset, open_dataset
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.evaluation.scoring import score_encoded, with_samples
from hubdpo.model.adapters.load import attach_adapter
from hubdpo.model.adapters.reference import add_reference
from hubdpo.model.adapters.start import StartAdapter, find_start
from hubdpo.model.bases.find import base_folder, find_base, named_as_base
from hubdpo.model.bases.load import load_base
from hubdpo.model.device import check_device, pick_device
from hubdpo.model.generation import use_stops
from hubdpo.model.memory import room_for_base, room_for_scoring
from hubdpo.model.probes import compare_probes, record_probes
from hubdpo.model.tokenizer.load import read_tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


@takes(EvaluateConfig, "model")
def evaluate(config: EvaluateConfig) -> EvalReport:
    """Rank the held-out pairs of a run with and without its adapter, on the base as it was quantised for training.

    Raise ArtefactError when the run is not complete or the dataset has no test split, ConfigError when base or dataset
    cannot be found any more or another process works in the folder, HubError when the Hub has no such dataset,
    TrainingError when memory runs out.
    """
    with alone_in(Path(config.model)) if Path(config.model).is_dir() else contextlib.nullcontext():
        return _evaluate(config)


def _evaluate(config: EvaluateConfig) -> EvalReport:
    # 1. refuse what can be refused before torch is imported
    folder = Path(config.model)
    run = _read(folder)
    check_device(config.device)
    manifest, dataset = look_at_dataset(next(iter(config.dataset), None) or _dataset_of(folder, run))
    if not manifest.splits.get("test"):
        raise ArtefactError("the dataset has no test split", hint="hubdpo prepare SOURCE -o DIR --test-size 0.05")
    base_name = config.model_name_or_path or run.base.repo_id
    if base_name is None:
        base_name = str(base_folder(run.base, folder, hint="give it with `--model-name-or-path DIR`"))
    start = _start_of(config, run)

    # 2. data and base
    split = open_dataset(dataset)[0]["test"]
    device = pick_device(config.device)
    with named_as_base():
        own_template = run.config.get("chat_template") is not None
        base = find_base(base_name, None if "@" in base_name else run.base.revision, needs_template=not own_template)
    pairs_of_test = min(split.pairs, config.max_pairs)
    console.info(f"{console.counted(pairs_of_test, 'held-out pair')}, {run.base.name} on {device}")
    in_4bit, limit, pairs = run.config["load_in_4bit"], run.config["max_length"], config.per_device_eval_batch_size
    # the run folder has the base's tokenizer, with the template of the training where that is another
    tokenizer_folder, kwargs = folder if own_template else base.folder, run.config.get("chat_template_kwargs")
    tokenizer = read_tokenizer(tokenizer_folder, kwargs)
    encoding = Encoding.of(
        tokenizer_folder, template=None, template_kwargs=kwargs, max_length=limit,
        prompt_budget=run.config["max_prompt_length"] or limit // 2,
    )  # fmt: skip
    test = encoded(split, encoding, limit=config.max_pairs)
    with room_for_base(load_in_4bit=in_4bit):
        model = load_base(base.folder, device=device, load_in_4bit=in_4bit, dtype=run.config.get("dtype", "auto"))
        use_stops(model, run)
        adapted = attach_adapter(model, folder)
        if start is not None:
            add_reference(adapted, start.folder)

    # 3. probes, scores and samples
    with room_for_scoring(pairs, lambda fewer: _command(config, fewer)):
        _compare_or_record(folder, run, adapted, tokenizer)
        report, scores = score_encoded(adapted, test, beta=run.config["beta"], batch_size=pairs)
        report = with_samples(report, adapted, tokenizer)
    report.write(folder / EVAL_FILE)
    write_atomic(folder / EVAL_PAIRS_FILE, to_lines(scores))
    write_plots(folder, chosen=run.chosen.step if run.chosen else None)
    if run.files:
        files = run.files | entries_of(folder, EVALUATED_FILES)
        run.model_copy(update={"files": files}).write(folder / RUN_FILE)
    return report


def _read(folder: Path) -> RunManifest:
    repo, _, revision = str(folder).partition("@")
    if folder.exists() or not is_repo_id(repo):
        return read_run(folder, but=EVALUATED_FILES)
    name, at = repo.partition("/")[2], f"--revision {revision} " if revision else ""
    raise ArtefactError(
        f"there is no folder `{folder}`, and evaluate needs the folder of a run",
        hint=f"check the path; for an adapter on the Hub, hf download {repo} {at}--local-dir {name}, then "
        f"`hubdpo evaluate {name}`",
    )


def _dataset_of(folder: Path, run: RunManifest) -> str:
    """Return the dataset of a run: its repo at a commit, or the folder on this machine."""
    if run.dataset.repo_id:
        return f"{run.dataset.repo_id}@{run.dataset.revision}"
    local = remembered_folder(folder, "dataset")
    if local is None:
        raise ConfigError(f"the dataset folder `{run.dataset.name}` is gone", hint="give it with `--dataset DIR`")
    return str(local)


def _start_of(config: EvaluateConfig, run: RunManifest) -> StartAdapter | None:
    """Return the adapter that a run started from, where it is the reference of the rewards.

    Raise ConfigError when it is gone, or was changed.
    """
    ref = run.started_from
    is_compared = run.config.get("reference_adapter") != "none" and uses_reference(run.config["loss_type"])
    if ref is None or not is_compared:
        return None
    name, here = config.adapter, remembered_folder(Path(config.model), "adapter")
    if name is None and (here is not None or ref.repo_id is not None):
        name = str(here) if here is not None else f"{ref.repo_id}@{ref.revision}"
    if name is None:
        raise ConfigError(
            f"the adapter folder `{ref.name}`, from which the run started, is gone", hint="give it with `--adapter DIR`"
        )
    start = find_start(name)
    if start.ref.sha256 != ref.sha256:
        raise ConfigError(
            f"`{name}` holds other weights than those that the run started from", hint="give them with `--adapter`"
        )
    return start


def _command(config: EvaluateConfig, pairs: int) -> str:
    """Return the command that scores so many pairs a forward pass, or leaves the GPU when there were no more before."""
    fewer = pairs < config.per_device_eval_batch_size
    option = f"--per-device-eval-batch-size {pairs}" if fewer else "--device cpu"
    return f"hubdpo evaluate {shlex.quote(str(Path(config.model)))} {option}"


def _compare_or_record(folder: Path, run: RunManifest, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare with the probes of the training and warn where they differ; record probes for a run that has none."""
    path, recorded = folder / PROBES_FILE, run.files.get(PROBES_FILE)
    if path.exists() and recorded not in (None, file_entry(path)):
        console.warn(f"`{path}` was changed after it was written; it is written again, and not compared with")
        path.unlink()
    if not path.exists():
        record_probes(
            model, tokenizer, load_in_4bit=run.config["load_in_4bit"],
            template_kwargs=run.config.get("chat_template_kwargs"),
        ).write(path)  # fmt: skip
        return
    result = compare_probes(model, tokenizer, Probes.read(path))
    if not result.passed:
        console.warn(
            f"the adapter does not load as it was trained: log-probabilities differ by {result.mean_difference:.2g} "
            f"nats a token, {result.tolerance:g} at most; `hubdpo push` will refuse it"
        )
