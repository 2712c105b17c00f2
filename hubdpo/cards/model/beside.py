"""What an adapter changed beside the ranking of pairs, and benchmarks, as a model card tells it."""

from __future__ import annotations

import math

from hubdpo.artefacts.manifests.benchmarks import Benchmark, Benchmarks, Metric
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.health import Drawing, Health, Holds, Likelihood
from hubdpo.artefacts.manifests.intervals import Interval
from hubdpo.cards.fences import one_line
from hubdpo.cards.results import NONE, Row, interval, probability
from hubdpo.console import counted

MOST_NATS = 16.0
"""A perplexity beyond the exponential of this, nine million, is called so, and not a number of many digits."""

BESIDE_HEADINGS = ("beside the ranking", "base", "adapter", "difference")
BENCHMARK_HEADINGS = ("task", "examples", "metric", "base", "adapter", "difference")


def beside_values(report: EvalReport) -> dict[str, object]:
    """Return the values of the template."""
    health, benchmarks = report.health, report.benchmarks
    return {
        "beside_rows": beside_rows(health) if health is not None else [],
        "beside_sentences": beside_sentences(health) if health is not None else [],
        "benchmark_rows": benchmark_rows(benchmarks) if benchmarks is not None else [],
        "own_tasks": own_tasks(benchmarks) if benchmarks is not None else "",
        "harness": one_line(benchmarks.harness) if benchmarks is not None else "",
    }


def beside_rows(health: Health) -> list[Row]:
    """Return the cells under BESIDE_HEADINGS."""
    rows = [_perplexity_row(health.likelihood)] if health.likelihood is not None else []
    answers = health.answers
    if answers is None:
        return rows
    lengths, most = answers.lengths, answers.drawing.max_new_tokens
    rows += [
        ("mean length of an answer, tokens", *(_around(each, ".1f") for each in (lengths.base, lengths.adapter)),
         _change(lengths.rise, ".1f")),
        ("… median", f"{lengths.base_median:,.0f}", f"{lengths.adapter_median:,.0f}",
         f"{lengths.adapter_median - lengths.base_median:+,.0f}"),
        _holds(f"answers that had not ended after {counted(most, 'token')}", answers.unended),
        _holds("answers that begin like a refusal", answers.refusals),
    ]  # fmt: skip
    if answers.other_language is not None:
        of = counted(answers.other_language.prompts, "prompt")
        rows.append(_holds(f"answers in another language than the prompt, of {of}", answers.other_language))
    return rows


def beside_sentences(health: Health) -> list[str]:
    """Say how far the adapter moved from its base, how the answers were drawn, and what the table leaves out."""
    sentences, far, answers = [], health.divergence, health.answers
    if far is not None:
        nats = _around(far.interval or far.value, ".4f")
        sentences.append(
            f"The KL divergence of the adapter from the base is {nats} nats a token, "
            f"over {counted(far.tokens, 'token')} of the answers of {counted(far.pairs, 'pair')}."
        )
    if answers is None:
        return sentences
    sentences.append(
        f"Both answered {counted(answers.prompts, 'prompt')} {_drawn(answers.drawing)}; to {answers.equal:,} "
        "of them they gave the same answer."
    )
    if answers.not_asked:
        sentences.append(
            f"{counted(answers.not_asked, 'further prompt')} could not be asked, because of length or template."
        )
    if answers.language_changes:
        changes = [f"{each.prompt} → {each.answer} ({each.times:,})" for each in answers.language_changes]
        sentences.append(f"Languages of prompts and of the adapter's answers that differ: {', '.join(changes)}.")
    return sentences


def benchmark_rows(benchmarks: Benchmarks) -> list[Row]:
    """Return the cells under BENCHMARK_HEADINGS."""
    return [
        (_task(task), f"{task.examples:,}" if task.examples else NONE, _named(metric),
         _with_error(metric.base, metric.base_stderr), _with_error(metric.adapter, metric.adapter_stderr),
         _difference(metric))
        for task in benchmarks.tasks
        for metric in task.metrics
    ]  # fmt: skip


def _perplexity_row(found: Likelihood) -> Row:
    # differences of log-perplexities are ratios of perplexities
    ratio = [math.exp(min(each, MOST_NATS)) for each in (found.rise.value, found.rise.low, found.rise.high)]
    is_known = max(found.base.high, found.adapter.high) <= MOST_NATS
    return (
        f"perplexity of the preferred answers, {counted(found.tokens, 'token')}", _perplexity(found.base),
        _perplexity(found.adapter), "× {:.3f} ({:.3f} to {:.3f})".format(*ratio) if is_known else NONE,
    )  # fmt: skip


def _perplexity(nats: Interval) -> str:
    if nats.high > MOST_NATS:
        return f"above {math.exp(MOST_NATS):.0e}"
    value, low, high = (f"{math.exp(each):,.2f}" for each in (nats.value, nats.low, nats.high))
    return f"{value} ({low}–{high})"


def _holds(what: str, found: Holds) -> Row:
    points = f"{100 * (found.adapter.value - found.base.value):+.1f} pt (p = {probability(found.mcnemar_p)})"
    return what, interval(found.base), interval(found.adapter), points


def _around(found: Interval | float, form: str) -> str:
    if isinstance(found, float):
        return f"{found:{form}}"
    return f"{found.value:{form}} ({found.low:{form}}–{found.high:{form}})"


def _change(found: Interval, form: str) -> str:
    return f"{found.value:+{form}} ({found.low:+{form}} to {found.high:+{form}})"


def _drawn(drawing: Drawing) -> str:
    if not drawing.do_sample:
        return "greedily, as the base's generation config says"
    settings = {"temperature": drawing.temperature, "top-p": drawing.top_p, "top-k": drawing.top_k}
    words = [f"{name} {value:g}" for name, value in settings.items() if value]
    return f"with the base's own settings ({', '.join(words)}) and the same random numbers"


def _task(task: Benchmark) -> str:
    shots = f", {counted(task.shots, 'shot')}" if task.shots is not None else ""
    version = f" v{one_line(task.version)}" if task.version else ""
    return f"`{one_line(task.name)}`{version}{shots}"


def own_tasks(benchmarks: Benchmarks) -> str:
    """Name the tasks that came from files of the publisher's own; "" if there are none."""
    own = [f"`{one_line(task.name)}` (SHA-256 `{task.sha256[:12]}`)" for task in benchmarks.tasks if task.sha256]
    return f"Tasks of the publisher's own, which are no public benchmarks: {', '.join(own)}." if own else ""


def _named(metric: Metric) -> str:
    name = f"{one_line(metric.name)}{f' ({one_line(metric.filter)})' if metric.filter else ''}"
    return f"{name}, lower is better" if metric.higher_is_better is False else name


def _with_error(value: float, stderr: float | None) -> str:
    return f"{value:.4f}" + (f" ± {stderr:.4f}" if stderr is not None else "")


def _difference(metric: Metric) -> str:
    return _change(metric.rise, ".4f") if metric.rise is not None else f"{metric.adapter - metric.base:+.4f}"
