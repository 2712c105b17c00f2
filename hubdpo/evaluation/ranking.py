"""How base and adapter rank held-out pairs, from the log-probabilities that they give the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hubdpo import console
from hubdpo.artefacts.formats.pair_scores import COUNTS, MODELS, START, Numbers, columns_of
from hubdpo.artefacts.manifests.evaluation import OtherScores, Ranking, StartScores, Stratum
from hubdpo.artefacts.manifests.intervals import Accuracy, Interval, mcnemar
from hubdpo.data.encoded.encoded import EncodedSplit
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.errors import ArtefactError
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.models import ADAPTER, BASE, OTHER, WORDS, Models
from hubdpo.evaluation.scoring import Flags, Once, Scores, anew, ranked_right, scores_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

Values = npt.NDArray[np.float64]
"""A value for each pair."""


class Scored(NamedTuple):
    """How the models rank some pairs, and the columns `[pairs]` of `eval_pairs.jsonl`."""

    ranking: Ranking
    pairs: dict[str, Numbers]


def score_pairs(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Mapping[str, list[dict[str, str]]]],
    *,
    max_length: int = 1024,
    prompt_budget: int = 512,
) -> Ranking:
    """Score pairs in memory, as `score_encoded` does, with the defaults of training."""
    encoder = PairTokenizer(tokenizer, max_length=max_length, prompt_budget=prompt_budget)
    rows = TokenRows.of(encoder.rows(examples))
    return score_encoded(Models(model), EncodedSplit(rows, encoder), beta=0.1, batch_size=4).ranking


def score_encoded(
    models: Models, test: EncodedSplit, *, beta: float, batch_size: int, once: Once = anew, kept: Kept | None = None,
    split: str = "test",
) -> Scored:  # fmt: skip
    """Score pairs with each of the models.

    A pair is ranked right when the chosen answer has the higher log-likelihood, divided by its length in tokens; a tie
    counts half. The
    reward margin is that of DPO's implicit reward (arXiv 2305.18290, equation 5). `once` keeps what does not depend on
    the adapter for the next one, and `kept` every score. Raise ArtefactError when no pair can be scored.
    """
    rows, account = test.rows, test.account
    if not len(rows):
        why = "; ".join(account.dropped())
        raise ArtefactError(f"no pair of the `{split}` split can be scored: {why}", hint=account.hint())
    for sentence in account.dropped():
        console.warn(f"`{split}` split: {sentence}")

    def score(name: str) -> Scores:
        with models.running(name) as model:
            return scores_of(model, rows, batch_size, WORDS[name], kept, models.keys.get(name, ""))

    scores: dict[str, Scores] = {}
    for name in models.names:
        is_shared = name in (BASE, START)
        scores[name] = once(f"scores of the {WORDS[name]}", partial(score, name)) if is_shared else score(name)
    ranking = _ranking(scores, beta).model_copy(update={"weights": models.weights})
    columns = _columns(rows, {name: scores[name] for name in (*MODELS, START) if name in scores})
    return Scored(ranking, columns)


def _ranking(scores: Mapping[str, Scores], beta: float) -> Ranking:
    base, adapter, start = scores[BASE], scores[ADAPTER], scores.get(START)
    before = start or base
    # reward = beta * log(policy / reference) + a term that depends on the prompt alone and cancels in the margin
    rewards = beta * ((adapter.chosen - before.chosen) - (adapter.rejected - before.rejected))
    gained, lost, p = mcnemar(base.right.tolist(), adapter.right.tolist())
    more_tokens = base.chosen_length - base.rejected_length
    return Ranking(
        pairs=len(base.chosen),
        reward_accuracy=_share(ranked_right(rewards)),
        reward_margin=fmean(rewards),
        reward_interval=Interval.of_mean(rewards),
        base_accuracy=_share(base.right),
        adapter_accuracy=_share(adapter.right),
        accuracy_gain=_gain(adapter.right, base.right),
        longer_answer_accuracy=_share(ranked_right(more_tokens)),
        base_margin=fmean(base.per_token),
        adapter_margin=fmean(adapter.per_token),
        margin_gain=_gain(adapter.per_token, base.per_token),
        base_summed_accuracy=_share(ranked_right(base.chosen - base.rejected)),
        adapter_summed_accuracy=_share(ranked_right(adapter.chosen - adapter.rejected)),
        only_adapter_right=gained,
        only_base_right=lost,
        mcnemar_p=p,
        chosen_longer=_stratum(base, adapter, more_tokens > 0),
        chosen_shorter=_stratum(base, adapter, more_tokens < 0),
        start=_start_scores(start, adapter) if start is not None else None,
        other=_other_scores(scores[OTHER], adapter) if OTHER in scores else None,
    )


def _columns(rows: TokenRows, scores: Mapping[str, Scores]) -> dict[str, Numbers]:
    any_scores = next(iter(scores.values()))
    counts = (rows.row_numbers, any_scores.chosen_length, any_scores.rejected_length)
    columns: dict[str, Numbers] = dict(zip(COUNTS, counts, strict=True))
    for model, of in scores.items():
        columns |= zip(columns_of(model), (of.chosen, of.rejected), strict=True)
    return columns


def _start_scores(start: Scores, adapter: Scores) -> StartScores:
    gained, lost, p = mcnemar(start.right.tolist(), adapter.right.tolist())
    return StartScores(
        accuracy=_share(start.right), margin=fmean(start.per_token), only_adapter_right=gained,
        only_start_right=lost, mcnemar_p=p,
    )  # fmt: skip


def _other_scores(other: Scores, adapter: Scores) -> OtherScores:
    gained, lost, p = mcnemar(other.right.tolist(), adapter.right.tolist())
    return OtherScores(
        accuracy=_share(other.right), margin=Interval.of_mean(other.per_token),
        accuracy_gain=_gain(adapter.right, other.right), margin_gain=_gain(adapter.per_token, other.per_token),
        only_adapter_right=gained, only_other_right=lost, mcnemar_p=p,
    )  # fmt: skip


def _gain(after: Values, before: Values) -> Interval:
    return Interval.of_mean(after - before)


def _share(right: Values) -> Accuracy:
    return Accuracy.of(float(right.sum()), len(right))


def _stratum(base: Scores, adapter: Scores, members: Flags) -> Stratum | None:
    if not members.any():
        return None
    shares = (_share(scores.right[members]) for scores in (base, adapter))
    return Stratum(pairs=int(members.sum()), base=next(shares), adapter=next(shares))
