"""Keep what an earlier evaluation of the same model found and this one was not asked for, and name what is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_bytes
from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, from_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport, EvaluatedDataset
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, FileEntry, file_entry
from hubdpo.config import EvaluateConfig
from hubdpo.errors import ArtefactError

WORDS = {"judged": "what a judge said", "quoted": "the quoted answers", "benchmarks": "the benchmarks"}
"""Parts of a report that an evaluation has where it is asked for them."""


def with_earlier(
    report: EvalReport, answered: Sequence[Answered], config: EvaluateConfig, output: Path,
    files: Mapping[str, FileEntry],
) -> tuple[EvalReport, list[Answered]]:  # fmt: skip
    """Return the report and the answers with the parts of the earlier ones in the folder that still hold.

    They hold for the same model, dataset and weights. `files` has the hashes of a run's files: a report that was
    changed since is not read.
    """
    earlier = _read(output, files)
    if "max_pairs" in config.model_fields_set and earlier is not None and earlier.pairs > report.pairs:
        console.warn(
            f"{EVAL_FILE}, and with it the card, had results on {earlier.pairs:,} pairs and has them on "
            f"{report.pairs:,} now; evaluate all pairs, and it has them again"
        )
    if earlier is None or earlier.model is None or earlier.model.sha256 != (report.model and report.model.sha256):
        return report, list(answered)
    _say_what_is_lost(earlier, report)
    if _subject(earlier) != _subject(report):
        return report, list(answered)
    withdrawn = {"quoted"} if "publish_samples" in config.model_fields_set and not config.publish_samples else set()
    kept: dict[str, object] = {
        name: value
        for name in WORDS.keys() - withdrawn
        if getattr(report, name) is None and (value := getattr(earlier, name)) is not None
    }
    words = [WORDS[name] for name in WORDS if name in kept]
    found, health = _answered(output), report.health
    if health is not None and health.answers is None and earlier.health is not None and earlier.health.answers:
        kept["health"] = health.model_copy(update={"answers": earlier.health.answers})
        words, answered = [*words, "the answers"], found
    elif "judged" in kept:
        verdicts = {_key(each): each.verdict for each in found}
        answered = [each.model_copy(update={"verdict": verdicts.get(_key(each))}) for each in answered]
    if words:
        console.info(f"kept of the last evaluation: {console.listed(words)}")
    return report.model_copy(update=kept), list(answered)


def _read(output: Path, files: Mapping[str, FileEntry]) -> EvalReport | None:
    path = output / EVAL_FILE
    if not path.is_file() or files.get(EVAL_FILE, entry := file_entry(path)) != entry:
        return None
    try:
        return EvalReport.read(path)
    except ArtefactError:
        return None


def _subject(report: EvalReport) -> tuple[str | None, str | None]:
    """Return what answers depend on beside the model: the data, and how the base was loaded."""
    return report.dataset.fingerprint if report.dataset is not None else None, report.samples_weights


def _say_what_is_lost(earlier: EvalReport, report: EvalReport) -> None:
    """Warn of results that the new report does not have; their scores are kept, so they cost nothing to have again."""
    now = {each.fingerprint for each in _datasets(report)}
    lost = [f"`{each.name}`" for each in _datasets(earlier) if each.fingerprint not in now]
    if earlier.against is not None and report.against is None:
        lost.append(f"the adapter `{earlier.against.name}`")
    if lost:
        console.warn(
            f"{EVAL_FILE} had results on {console.listed(lost)}, which it has no longer; name them again, and they are "
            "there without being computed again"
        )


def _datasets(report: EvalReport) -> list[EvaluatedDataset]:
    first = [report.dataset] if report.dataset is not None else []
    return [*first, *(further.dataset for further in report.further)]


def _answered(output: Path) -> list[Answered]:
    """Return the answers side by side of the last evaluation, none where their file is gone or damaged."""
    try:
        return from_lines(read_bytes(output / ANSWERED_FILE))
    except (OSError, ArtefactError):
        return []


def _key(each: Answered) -> tuple[int, str, str]:
    return each.row, each.base.text, each.adapter.text
