"""The evaluate stage: an adapter or a model in; eval.json, the scores of each pair and plots out. Imports no torch."""

from __future__ import annotations

import gc
import shlex
from contextlib import nullcontext
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubdpo import console
from hubdpo.artefacts.folders.kinds import EVALUATED_FILES, entries_of
from hubdpo.artefacts.folders.named import A_WHAT, what_is
from hubdpo.artefacts.folders.run_folder import alone_in
from hubdpo.artefacts.formats.pair_scores import to_lines
from hubdpo.artefacts.manifests.answered import ANSWERED_FILE
from hubdpo.artefacts.manifests.answered import to_lines as to_answered
from hubdpo.artefacts.manifests.evaluation import EvalReport, FurtherDataset, Probes
from hubdpo.artefacts.manifests.manifest import (
    EVAL_FILE,
    EVAL_PAIRS_FILE,
    EVALUATION_FOLDER,
    PROBES_FILE,
    RUN_FILE,
    file_entry,
    write_atomic,
)
from hubdpo.cards.model.plots import write_plots
from hubdpo.config import EvaluateConfig
from hubdpo.config.flags import flags
from hubdpo.config.takes import takes
from hubdpo.errors import ConfigError, TrainingError
from hubdpo.evaluation.beside import Beside, judged_by, look_beside
from hubdpo.evaluation.earlier import with_earlier
from hubdpo.evaluation.held_out import HeldOut, look_at, read
from hubdpo.evaluation.judge.judged import open_panel
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.lm_eval import check_lm_eval, find_tasks
from hubdpo.evaluation.models import ORIGINAL, Models, Parts, Weights, load_models
from hubdpo.evaluation.ranking import Scored, score_encoded
from hubdpo.evaluation.samples import quotes_of
from hubdpo.evaluation.scoring import SCORES
from hubdpo.evaluation.subject import Subject, find_base_of, find_other, find_reference, find_subject
from hubdpo.model.device import check_device, pick_device
from hubdpo.model.memory import room_for_scoring
from hubdpo.model.probes import compare_probes, record_probes
from hubdpo.model.tokenizer.load import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORES_FILE = "scores.jsonl"
"""In the folder `evaluation` of a run: the scores of all answers by all models, see `Kept`."""
BETA = 0.1
"""Of a training that did not record it: the default of DPO in TRL and here."""


@takes(EvaluateConfig, "model")
def evaluate(config: EvaluateConfig) -> EvalReport:
    """Rank held-out pairs with and without an adapter, on the base as it was trained on and on its original weights.

    The results are in the run folder, or in `output_dir`. What was computed is kept there, so that the same command
    goes on after a kill. Raise ArtefactError when a run is not complete or a dataset has no split to score, ConfigError
    when base or dataset cannot be found or another process works in the folder, HubError when the Hub lacks one of
    them, JudgeError when the judge does not answer, TrainingError when memory runs out.
    """
    return evaluate_into_folder(config).report


class Evaluated(NamedTuple):
    """A report, the folder that it is in, and whether that is the run, which can be pushed with it."""

    report: EvalReport
    folder: Path
    is_run: bool


def evaluate_into_folder(config: EvaluateConfig) -> Evaluated:
    """Evaluate a model, as `evaluate` says."""
    check_device(config.device)
    check_lm_eval(config.lm_eval)
    folder = Path(config.model)
    with alone_in(folder) if (folder / RUN_FILE).is_file() else nullcontext():
        subject = find_subject(config)
        output = subject.output_dir(config)
        _check_output(output, subject)
        with alone_in(output) if output != folder else nullcontext():
            report = _evaluate(config, subject, output)
    return Evaluated(report, output, subject.is_run_folder and output == folder)


def _check_output(output: Path, subject: Subject) -> None:
    """Raise ConfigError for an output that is a file, a folder of another stage, or has another model's evaluation."""
    hint = "give another `--output-dir`"
    if output.exists() and not output.is_dir():
        raise ConfigError(f"`{output}` is a file, and the results need a folder", hint=hint)
    if subject.is_local and output.resolve() == subject.folder.resolve():
        return
    if (what := what_is(output)) is not None:
        raise ConfigError(f"`{output}` is {A_WHAT[what]}, and the results need a folder of their own", hint=hint)
    if not (output / EVAL_FILE).exists():
        return
    model = EvalReport.read(output / EVAL_FILE).model
    if model is not None and model.sha256 != subject.ref.sha256:
        raise ConfigError(f"`{output}` has the evaluation of another model, {model.place}", hint=hint)


def _evaluate(config: EvaluateConfig, subject: Subject, output: Path) -> EvalReport:
    # 1. refuse what can be refused before torch is imported
    found = [look_at(name, subject) for name in subject.datasets(config)]
    reference, base = find_reference(config, subject), find_base_of(subject, config)
    parts = Parts(subject, base, reference, find_other(config, subject, base))
    trained_on = _trained_on(config, subject)
    panel = open_panel(config)

    # 2. data
    device = pick_device(config.device)
    tokenizer_folder = subject.tokenizer_folder(base.folder)
    sets = read(config, subject, tokenizer_folder, found)
    tokenizer = read_tokenizer(tokenizer_folder, subject.template_kwargs)
    tasks = find_tasks(config.lm_eval)
    pairs = sum(len(held_out.test.rows) for held_out in sets)
    noun = "held-out pair" if all(held_out.dataset.is_held_out for held_out in sets) else "pair"
    console.info(f"{console.counted(pairs, noun)}, {base.ref.name} on {device}")

    # 3. the original weights first: answers and benchmarks are those of the weights that other programs load
    scores, scored = Kept(output / EVALUATION_FOLDER / SCORES_FILE, SCORES), dict[Weights, list[Scored]]()
    beta = (subject.run.beta if subject.run is not None else None) or BETA
    command, batch_size = partial(_command, config), config.per_device_eval_batch_size
    beside: Beside | None = None
    for weights in dict.fromkeys((ORIGINAL, trained_on) if config.base_weights == "both" else (trained_on,)):
        models = _loaded(parts, weights, device, is_needed=weights == trained_on)
        if models is None:
            continue
        with room_for_scoring(batch_size, command):
            if weights == trained_on and subject.is_run_folder and config.base_weights != "original":
                _compare_or_record(subject, models, tokenizer)
            scored[weights] = [
                score_encoded(
                    models,
                    each.test,
                    beta=beta,
                    batch_size=batch_size,
                    kept=scores,
                    split=f"{each.dataset.name} {each.dataset.split}",
                )
                for each in sets
            ]
            if beside is None:
                first = sets[0], scored[weights][0]
                beside = look_beside(config, models, tokenizer, *first, output, tasks, command)
        del models
        gc.collect()
    assert beside is not None

    # 4. the judge, while no model takes memory, and the report
    beside = judged_by(panel, beside, output)
    report = _report(config, parts, sets, scored, trained_on, beside)
    files = subject.run.files if subject.run is not None and output == subject.folder else {}
    report, answered = with_earlier(report, beside.answered, config, output, files)
    write_atomic(output / ANSWERED_FILE, to_answered(answered))
    _write(report, scored[trained_on][0], subject, output)
    return report


def _trained_on(config: EvaluateConfig, subject: Subject) -> Weights:
    """Return the state of the base that a report is about: that of the training, unless it is not wanted or known."""
    run = subject.run
    as_trained = Weights(subject.in_4bit(config), run.dtype if run is not None else "auto")
    return ORIGINAL if subject.is_whole or config.base_weights == "original" else as_trained


def _loaded(parts: Parts, weights: Weights, device: str, *, is_needed: bool) -> Models | None:
    """Load the models on one state of the base; None, with a warning, where it does not fit and is not needed."""
    try:
        return load_models(parts, weights, device)
    except TrainingError as problem:
        if is_needed:
            raise
        console.warn(f"the original weights of the base are not measured: {problem.message}")
        return None


def _report(
    config: EvaluateConfig, parts: Parts, sets: list[HeldOut], scored: dict[Weights, list[Scored]], trained_on: Weights,
    beside: Beside,
) -> EvalReport:  # fmt: skip
    original = scored.get(ORIGINAL) if trained_on != ORIGINAL else None
    first, *others = (
        FurtherDataset(dataset=held_out.dataset, as_trained=ours.ranking, original=other and other.ranking)
        for held_out, ours, other in zip_longest(sets, scored[trained_on], original or ())
    )
    return EvalReport(
        split=first.dataset.split, model=parts.subject.ref, **dict(first.as_trained), dataset=first.dataset,
        original=first.original, further=others, against=parts.other.ref if parts.other is not None else None,
        samples=beside.samples, samples_weights=beside.weights, health=beside.health,
        benchmarks=beside.benchmarks, judged=beside.judged,
        quoted=quotes_of(beside.answered, beside.weights) if config.publish_samples else None,
    )  # fmt: skip


def _command(config: EvaluateConfig, pairs: int) -> str:
    """Return the command that scores so many pairs a forward pass, or leaves the GPU when there were no more before."""
    fewer = pairs < config.per_device_eval_batch_size
    change = {"per_device_eval_batch_size": pairs} if fewer else {"device": "cpu"}
    options = config.model_copy(update=change).model_dump(mode="json", exclude={"model"})
    return " ".join(["hubdpo evaluate", shlex.quote(config.model), *flags(options, EvaluateConfig)])


def _write(report: EvalReport, scored: Scored, subject: Subject, output: Path) -> None:
    report.write(output / EVAL_FILE)
    write_atomic(output / EVAL_PAIRS_FILE, to_lines(scored.pairs))
    run = subject.run
    if run is None or output != subject.folder:
        return
    write_plots(output, chosen=run.chosen.step if run.chosen else None)
    if run.files:
        files = run.files | entries_of(output, EVALUATED_FILES)
        run.model_copy(update={"files": files}).write(output / RUN_FILE)


def _compare_or_record(subject: Subject, models: Models, tokenizer: PreTrainedTokenizerBase) -> None:
    run, path = subject.run, subject.folder / PROBES_FILE
    recorded = run.files.get(PROBES_FILE) if run is not None else None
    if path.exists() and recorded not in (None, file_entry(path)):
        console.warn(f"`{path}` was changed after it was written; it is written again, and not compared with")
        path.unlink()
    if not path.exists():
        record_probes(
            models.model, tokenizer, load_in_4bit=bool(run is not None and run.in_4bit),
            template_kwargs=subject.template_kwargs,
        ).write(path)  # fmt: skip
        return
    result = compare_probes(models.model, tokenizer, Probes.read(path))
    if not result.passed:
        console.warn(
            f"the adapter does not load as it was trained: log-probabilities differ by {result.mean_difference:.2g} "
            f"nats a token, {result.tolerance:g} at most; `hubdpo push` will refuse it"
        )
