"""Compare the answers of base and adapter: ask a judge, count its verdicts, and report what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, get_args

import numpy as np

from hubdpo import console
from hubdpo.artefacts.formats.pair_scores import MODELS
from hubdpo.artefacts.manifests import answered as shown
from hubdpo.artefacts.manifests.answered import Answered, Outcome, Verdict
from hubdpo.artefacts.manifests.judged import Judged, PerModel
from hubdpo.config.evaluate import JudgeOptions
from hubdpo.evaluation.answers import SEED
from hubdpo.evaluation.judge.ask import VERDICTS_FILE, Asking, Said, ask_all, asking
from hubdpo.evaluation.judge.comparison import in_words, question
from hubdpo.evaluation.judge.hosts import is_private
from hubdpo.evaluation.judge.rates import length_controlled, win_rate
from hubdpo.evaluation.judge.rubric import Rubric, read_rubric
from hubdpo.evaluation.judge.server import Judge, public_name
from hubdpo.evaluation.kept import Kept

POINTS: dict[Outcome, float] = {"adapter": 1.0, "base": 0.0, "tie": 0.5, "equal": 0.5, "order": 0.5}
MEANS: tuple[dict[str, Outcome], ...] = (
    {"A": "base", "B": "adapter", "tie": "tie"}, {"A": "adapter", "B": "base", "tie": "tie"}
)  # fmt: skip
"""What a verdict means, in the order base, adapter and in the other one."""


class Panel(NamedTuple):
    """A judge that answers, and the criteria that it is given."""

    judge: Judge
    rubric: Rubric
    requests: int


class Pair(NamedTuple):
    """Two answers to a prompt, and the two questions about them; none where they are equal."""

    answered: Answered
    questions: tuple[Asking, ...] = ()
    is_cut: bool = False


def open_panel(config: JudgeOptions) -> Panel | None:
    """Read the rubric and ask the judge a few words, before anything is loaded. None where no judge is asked for.

    Raise ConfigError or JudgeError.
    """
    rubric = read_rubric(config.rubric)
    if config.judge is None or config.judge_model is None:
        return None
    judge = Judge(config.judge, config.judge_model, max_tokens=config.judge_max_tokens)
    judge.check()
    return Panel(judge, rubric, config.judge_requests)


def judged(
    panel: Panel, answered: Sequence[Answered], *, kept: Kept, weights: str | None
) -> tuple[Judged, list[Answered]]:
    """Let a judge compare base and adapter, which answered on a base that was loaded with these `weights`.

    Each pair is shown in both orders. Return the report, and the answers with the verdict on each pair. Raise
    JudgeError when the judge does not answer any more, Stopped for Ctrl-C.
    """
    pairs = [_pair(panel, each) for each in answered]
    console.info(f"{console.counted(len(pairs), 'pair')} of answers to judge by {panel.judge.model}, in both orders")
    said = ask_all(panel.judge, [each for pair in pairs for each in pair.questions], kept, requests=panel.requests)
    if cut := sum(each.verdict is None and not each.is_whole for each in said.values()):
        console.warn(
            f"{console.counted(cut, 'verdict')} not reached in {panel.judge.max_tokens:,} tokens: serve a model that "
            "thinks without its thinking, or give it more `--judge-max-tokens`"
        )
    verdicts = [_verdict(pair, said) for pair in pairs]
    report = _report(panel, pairs, said, [verdict.outcome for verdict in verdicts], weights)
    if report.unparsed:
        console.warn(
            f"{report.unparsed:,} of {console.counted(report.prompts, 'prompt')} left out, whose verdicts cannot be "
            f"read (the replies are in {VERDICTS_FILE}): ask a larger judge, or give it more `--judge-max-tokens`"
        )
    both = zip(answered, verdicts, strict=True)
    return report, [each.model_copy(update={"verdict": verdict}) for each, verdict in both]


def _pair(panel: Panel, answered: Answered) -> Pair:
    base, adapter = answered.base.text, answered.adapter.text
    if base.strip() == adapter.strip():
        return Pair(answered)
    conversation = in_words(answered)
    both = [
        question(panel.rubric.text, conversation, first, second) for first, second in ((base, adapter), (adapter, base))
    ]
    asked = (
        asking(panel.judge, each.text, {"row": answered.row, "first": first})
        for each, first in zip(both, MODELS, strict=True)
    )
    return Pair(answered, tuple(asked), both[0].is_cut)


def _verdict(pair: Pair, said: Mapping[str, Said]) -> Verdict:
    if not pair.questions:
        return Verdict(outcome="equal")
    both = [said.get(each.key) for each in pair.questions]
    replies = ["\n\n".join(each.replies) if each is not None else "" for each in both]
    return Verdict(outcome=_outcome(both), base_first=replies[0], adapter_first=replies[1])


def _outcome(both: Sequence[Said | None]) -> Outcome:
    """Return what comes of what was said in the order base, adapter and in the other one."""
    if None in both:
        return "refused"
    verdicts = [each.verdict for each in both if each is not None]
    if None in verdicts:
        return "unparsed"
    one, other = (means[str(verdict)] for means, verdict in zip(MEANS, verdicts, strict=True))
    return one if one == other else "order"


def _report(
    panel: Panel, pairs: Sequence[Pair], said: Mapping[str, Said], outcomes: Sequence[Outcome],
    weights: str | None,
) -> Judged:  # fmt: skip
    count = {outcome: outcomes.count(outcome) for outcome in get_args(Outcome)}
    counted = [pair for pair, outcome in zip(pairs, outcomes, strict=True) if outcome in POINTS]
    scores = np.array([POINTS[outcome] for outcome in outcomes if outcome in POINTS])
    longer = np.array([float(pair.answered.adapter.tokens - pair.answered.base.tokens) for pair in counted])
    read = [each.verdict for each in said.values() if each.verdict is not None]
    decided = [verdict for verdict in read if verdict != "tie"]
    shown = [pair for pair in counted if pair.questions]
    tokens = [each.tokens for each in said.values()]
    sums = [sum(parts) for parts in zip(*tokens, strict=True)] if tokens and None not in tokens else [None, None]
    return Judged(
        model=public_name(panel.judge.model), served=panel.judge.served and public_name(panel.judge.served),
        host=None if is_private(panel.judge.host) else panel.judge.host,
        date=datetime.now(UTC).date().isoformat(), rubric=panel.rubric.facts, weights=weights, seed=SEED,
        prompts=len(pairs), wins=count["adapter"], losses=count["base"],
        ties=count["tie"] + count["equal"] + count["order"], equal=count["equal"], order_decided=count["order"],
        unparsed=count["unparsed"], refused=count["refused"],
        win_rate=win_rate(scores) if counted else None,
        length_controlled=length_controlled(scores, longer),
        sign_test_p=_sign_test(count["adapter"], count["base"]) if counted else None,
        longer=float((longer > 0).mean()) if counted else None,
        mean_tokens_longer=float(longer.mean()) if counted else None,
        order_agreement=1 - count["order"] / len(shown) if shown else None,
        first_place=decided.count("A") / len(decided) if decided else None,
        refusals=_how_many(pairs, lambda answer: answer.refuses),
        empty=_how_many(pairs, lambda answer: not answer.text.strip()),
        cut=sum(pair.is_cut for pair in pairs), verdicts=len(said),
        asked_again=sum(len(each.replies) > 1 for each in said.values()),
        prompt_tokens=sums[0], completion_tokens=sums[1],
    )  # fmt: skip


def _how_many(pairs: Sequence[Pair], holds: Callable[[shown.Said], bool]) -> PerModel:
    return PerModel(
        base=sum(holds(pair.answered.base) for pair in pairs),
        adapter=sum(holds(pair.answered.adapter) for pair in pairs),
    )


def _sign_test(wins: int, losses: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
