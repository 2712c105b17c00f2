"""How base and adapter rank held-out pairs, as a model card tells it, on each state of the base and each dataset."""

from __future__ import annotations

from hubdpo.artefacts.manifests.evaluation import EvalReport, EvaluatedDataset, Ranking
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.fences import one_line
from hubdpo.cards.render import Front
from hubdpo.cards.results import Row, gain, interval, points, probability, result_rows, start_verdict, verdict
from hubdpo.console import counted

NF4 = "NF4"
"""How the words for a quantised base begin."""


def states(run: RunManifest, report: EvalReport) -> list[dict[str, object]]:
    """Return the results on the original weights of the base, where they were measured, and as trained."""
    beta = run.beta if run.is_compared else None
    found: list[dict[str, object]] = []
    for ranking in filter(None, (report.original, report)):
        sentences = verdict(ranking), start_verdict(ranking), _beside_other(report, ranking), _fall(ranking)
        rows = result_rows(ranking, beta=beta)
        found.append({"heading": _heading(run, ranking), "rows": rows, "sentences": list(filter(None, sentences))})
    return found


def headline(report: EvalReport) -> tuple[Ranking, str]:
    """Return the results that a card begins with, and what they were measured on: what the code of the card loads."""
    if report.original is not None:
        return report.original, "on the original weights, which the code below loads"
    if report.weights is not None and not report.weights.startswith(NF4):
        return report, ""
    return report, "on the base as training had it"


def lacks_original(run: RunManifest, report: EvalReport) -> bool:
    """Tell whether the code of the card loads other weights than those that were measured."""
    return report.original is None and bool(run.in_4bit) and (report.weights or NF4).startswith(NF4)


HEADINGS = ("dataset", "pairs", "base in", "base", "adapter", "difference", "p")
"""Of the columns of `ranking_rows`."""


def further_rows(report: EvalReport) -> list[Row]:
    """Return the cells under HEADINGS for each further dataset and state of the base."""
    return [
        row for each in report.further for row in ranking_rows(_further(each.dataset), each.original, each.as_trained)
    ]


def ranking_rows(name: str, *rankings: Ranking | None) -> list[Row]:
    """Return the cells under HEADINGS for each state of the base that was measured."""
    return [
        (
            name, f"{ranking.pairs:,}", ranking.weights or "as in training", interval(ranking.base_accuracy),
            interval(ranking.adapter_accuracy), gain(ranking),
            probability(ranking.mcnemar_p) if ranking.mcnemar_p is not None else "",
        )
        for ranking in rankings
        if ranking is not None
    ]  # fmt: skip


OTHER_HEADINGS = ("dataset", "base in", "other adapter", "adapter", "difference", "p")
"""Of the columns of `other_rows`."""


def other_rows(name: str, *rankings: Ranking | None) -> list[Row]:
    """Return the cells under OTHER_HEADINGS for each state of the base on which another adapter was measured."""
    return [
        (
            name, ranking.weights or "as in training", interval(ranking.other.accuracy),
            interval(ranking.adapter_accuracy), points(ranking.other.accuracy_gain),
            probability(ranking.other.mcnemar_p),
        )
        for ranking in rankings
        if ranking is not None and ranking.other is not None
    ]  # fmt: skip


def measured_on(run: RunManifest, report: EvalReport) -> str:
    """Say which pairs were scored."""
    data, pairs = report.dataset, counted(report.pairs, "pair")
    if data is None or _is_of_training(run, data):
        return f"the {pairs} of the held-out split `{report.split}`, which shares no prompt with the training split"
    return f"{pairs} of the split `{report.split}` of {_place(data)}{_seen(data)}"


def pairs_in_words(run: RunManifest, report: EvalReport, ranking: Ranking) -> str:
    """Name the pairs of the results that a card begins with, and their data if those are not of the training."""
    data = report.dataset
    if data is None or _is_of_training(run, data):
        return counted(ranking.pairs, "held-out pair")
    return f"{counted(ranking.pairs, 'held-out pair' if data.is_held_out else 'pair')} of {_place(data)}{_seen(data)}"


def _is_of_training(run: RunManifest, data: EvaluatedDataset) -> bool:
    return run.dataset is not None and data.fingerprint == run.dataset.fingerprint


def _seen(data: EvaluatedDataset) -> str:
    if data.in_train is None:
        return ", of which it is not known whether the training saw them"
    return f", {data.in_train:,} of which were in the training data" if data.in_train else ""


def _further(data: EvaluatedDataset) -> str:
    return f"{_place(data)}, split `{data.split}`{_seen(data)}"


def model_index(run: RunManifest, report: EvalReport) -> list[Front]:
    """Return the results for the front matter: one for each dataset."""
    first, data = report.dataset, run.dataset
    if first is None and data is not None:
        facts = data.model_dump(include={"name", "repo_id", "revision", "fingerprint"})
        first = EvaluatedDataset(**facts, split=report.split)
    first = first or EvaluatedDataset(name="held-out pairs", fingerprint="", split=report.split)
    sets = [(first, report, report.original), *((f.dataset, f.as_trained, f.original) for f in report.further)]
    return [_result(run, *each) for each in sets]


def _result(run: RunManifest, data: EvaluatedDataset, ranking: Ranking, original: Ranking | None) -> Front:
    dataset = {
        "type": data.repo_id or "preference", "name": one_line(data.name), "config": "default", "split": data.split
    }  # fmt: skip
    if data.revision:
        dataset["revision"] = data.revision
    metrics = [("Log-likelihood preference accuracy, length-normalised", ranking.adapter_accuracy)]
    if run.is_compared and run.beta is not None:
        metrics.append(("DPO implicit-reward accuracy", ranking.reward_accuracy))
    if original is not None:
        metrics.append((f"{metrics[0][0]}, base not quantised", original.adapter_accuracy))
    is_held_out = data.is_held_out or not data.fingerprint or _is_of_training(run, data)
    shown = [{"type": "accuracy", "name": name, "value": round(value.value, 4)} for name, value in metrics]
    task = {"type": "text-generation", "name": f"Preference ranking{' (held out)' * is_held_out}"}
    return {"task": task, "dataset": dataset, "metrics": shown}


def _heading(run: RunManifest, ranking: Ranking) -> str:
    weights = ranking.weights or ""
    if weights.startswith(NF4) or (not weights and run.in_4bit):
        return f"Base quantised as in training ({weights or NF4})"
    words = f"Original weights of the base{f' ({weights})' if weights else ''}, as the code above loads them"
    is_known = run.in_4bit is not None or run.adopted is None  # of an adopted adapter it may not be
    return f"{words} and as in training" if is_known and not run.in_4bit else words


def _place(data: EvaluatedDataset) -> str:
    return f"`{data.repo_id}` at `{data.revision}`" if data.repo_id else f"`{one_line(data.name)}`"


def _beside_other(report: EvalReport, ranking: Ranking) -> str:
    ref, other = report.against, ranking.other
    if ref is None or other is None:
        return ""
    at = f" {ref.version}" if ref.version else f" at `{ref.revision}`"
    name = f"`{ref.repo_id}`{at}" if ref.repo_id else f"`{one_line(ref.name)}`"
    return (
        f"The adapter {name} ranks {interval(other.accuracy)} of the pairs correctly, at a mean margin of "
        f"{other.margin.value:+.4f}. This adapter differs from it by {points(other.accuracy_gain)} and alone ranks "
        f"{counted(other.only_adapter_right, 'pair')} correctly, that one alone "
        f"{counted(other.only_other_right, 'pair')} (p = {probability(other.mcnemar_p)})."
    )


def _fall(ranking: Ranking) -> str:
    if ranking.adapter_margin > ranking.base_margin:
        return ""
    return "The mean margin did not rise: the adapter does not separate the answers better than the base model."
