"""What a judge said of the answers, and the answers that a card quotes, as a model card tells it."""

from __future__ import annotations

from hubdpo.artefacts.manifests.evaluation import Quote, Quoted
from hubdpo.artefacts.manifests.health import AnswerHealth
from hubdpo.artefacts.manifests.judged import Judged, Rate
from hubdpo.cards.fences import fence, one_line, wrapped
from hubdpo.cards.results import CHANCE, NONE, Row, interval, percent, probability
from hubdpo.console import counted

OUTCOMES = {
    "adapter": "the adapter's answer is better", "base": "the base's answer is better", "tie": "a tie",
    "equal": "the answers are the same", "order": "a tie, as the order decided", "unparsed": "no verdict",
    "refused": "not judged",
}  # fmt: skip


def judge_words(report: Judged) -> str:
    """Say who judged by what: the model, its server unless that is private, the rubric and the day."""
    model = f"`{one_line(report.model)}`"
    if report.served and report.served != report.model:
        model += f" (its server says `{one_line(report.served)}`)"
    if report.host:
        model += f" on {one_line(report.host)}"
    version = f", version {report.rubric.version}" if report.rubric.version is not None else ""
    return (
        f"{model}, by the rubric `{one_line(report.rubric.name)}`{version} "
        f"(SHA-256 `{report.rubric.sha256[:12]}`), on {report.date}"
    )


def judged_line(report: Judged) -> str:
    """Say in one line what a judge found."""
    if report.win_rate is None:
        return f"{report.model} gave no verdict on {counted(report.prompts, 'prompt')}"
    judged = counted(report.wins + report.losses + report.ties, "prompt")
    return (
        f"judged by {report.model}: the adapter wins {_share(report.win_rate)} of {judged}, ties by half; "
        f"at equal length {_share(report.length_controlled)}; both orders agree on {_share(report.order_agreement)}"
    )


def judged_rows(report: Judged) -> list[Row]:
    """Return (what, value) of the table of verdicts."""
    return [
        ("win rate of the adapter, a tie being half a win", _share(report.win_rate)),
        ("… at equal length", _share(report.length_controlled)),
        ("adapter better, base better, tied", f"{report.wins:,}, {report.losses:,}, {report.ties:,}"),
        ("… tied because the verdict changed with the order", f"{report.order_decided:,}"),
        ("… tied because the answers are the same", f"{report.equal:,}"),
        ("pairs with the same verdict in both orders", _share(report.order_agreement)),
        ("verdicts for the answer in the first place", _share(report.first_place)),
        ("the adapter's answer is the longer one", _share(report.longer)),
        ("empty answers, base and adapter", f"{report.empty.base:,}, {report.empty.adapter:,}"),
        ("refusals, base and adapter", f"{report.refusals.base:,}, {report.refusals.adapter:,}"),
    ]


def judged_sentences(report: Judged, answers: AnswerHealth | None = None) -> list[str]:
    """Say whether the difference is significant, what was left out, and what the judge cost.

    `answers` tells how many of the judged answers were cut.
    """
    sentences = []
    if report.sign_test_p is not None:
        sentence = f"Sign test on the prompts that are not tied: p = {probability(report.sign_test_p)}."
        is_sure = report.sign_test_p <= CHANCE
        sentences.append(sentence + ("" if is_sure else f" That is not significant at the {CHANCE:.0%} level."))
    if report.length_controlled is None and report.win_rate is not None:
        sentences.append("The lengths of these answers do not tell what the rate would be at equal length.")
    if answers is not None and max(answers.unended.base.value, answers.unended.adapter.value) > 0:
        sentences.append(
            f"{percent(answers.unended.base.value)} of the base model's answers and "
            f"{percent(answers.unended.adapter.value)} of the adapter's were cut at {answers.drawing.max_new_tokens:,} "
            "tokens, before they ended."
        )
    left_out = [
        f"{counted(number, 'prompt')} {why}"
        for number, why in (
            (report.unparsed, "whose verdict could not be read"),
            (report.refused, "that the judge's server refused"),
        )
        if number
    ]
    if left_out:
        sentences.append(f"Left out: {' and '.join(left_out)}.")
    if report.cut:
        sentences.append(f"Of {counted(report.cut, 'prompt')} the judge saw the texts in part, because they are long.")
    asked = f"{counted(report.verdicts, 'verdict')}, {report.asked_again:,} of them asked for twice"
    cost = "; the server did not count the tokens"
    if report.prompt_tokens is not None and report.completion_tokens is not None:
        cost = f": {report.prompt_tokens:,} tokens asked and {report.completion_tokens:,} answered"
    sentences.append(f"{asked}{cost}.")
    return sentences


def quoted_samples(quoted: Quoted) -> list[str]:
    """Return each prompt with both answers as a block of text."""
    return [fence(_quote(quote)) for quote in quoted.quotes]


def _quote(quote: Quote) -> str:
    empty = "(empty answer)"
    text = f"{quote.prompt}\n\n[base] {quote.base or empty}\n\n[adapter] {quote.adapter or empty}"
    return wrapped(text + (f"\n\n[judge] {OUTCOMES[quote.outcome]}" if quote.outcome else ""))


def _share(share: float | Rate | None) -> str:
    if share is None:
        return NONE
    return percent(share) if isinstance(share, float) else interval(share)
