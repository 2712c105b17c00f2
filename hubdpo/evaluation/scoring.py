"""Score how base and adapter rank held-out pairs, and ask both the same few prompts.

The prompts are fixed, so that a card shows typical answers and not chosen ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from hubdpo import console
from hubdpo.artefacts.formats.pair_scores import COUNTS, MODELS, START, Numbers, columns_of
from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample, StartScores, Stratum
from hubdpo.artefacts.manifests.intervals import Accuracy, mcnemar
from hubdpo.data.encoded.encoded import EncodedSplit
from hubdpo.data.encoded.rows import SIDES, Row, TokenRows, sequence
from hubdpo.data.tokens.tokenize import PairTokenizer, scored_places
from hubdpo.errors import ArtefactError, UnsupportedBase
from hubdpo.model.adapters.reference import has_reference, reference_active
from hubdpo.model.generation import answer_chat
from hubdpo.model.log_probs import answer_log_probs
from hubdpo.secrets import find_secrets, redact

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write two polite sentences that ask to move a meeting from Monday to Tuesday.",
    "请用两句话介绍一下茶的历史。",
)
NEW_TOKENS = 48
Once = Callable[[str, Callable[[], Any]], Any]
"""Returns what was made under a name before, or makes it."""


def anew(name: str, make: Callable[[], T]) -> T:
    """Make it, as `Once` of what has nobody to share it with."""
    return make()


@dataclass(frozen=True)
class Scores:
    """Summed log-probabilities of the answers of all pairs, in nats, and their lengths in tokens; each `[pairs]`."""

    chosen: npt.NDArray[np.float64]
    rejected: npt.NDArray[np.float64]
    chosen_length: npt.NDArray[np.int64]
    rejected_length: npt.NDArray[np.int64]

    @property
    def per_token(self) -> npt.NDArray[np.float64]:
        """The margin: chosen less rejected, each divided by its length, in nats per token."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length

    @property
    def are_right(self) -> Flags:
        """Whether each pair is ranked right: the chosen answer is the likelier one a token."""
        return self.per_token > 0

    @property
    def chosen_longer(self) -> Flags:
        return self.chosen_length > self.rejected_length

    @property
    def chosen_shorter(self) -> Flags:
        return self.chosen_length < self.rejected_length


class Scored(NamedTuple):
    """The report on some pairs, and the columns `[pairs]` of `eval_pairs.jsonl`."""

    report: EvalReport
    pairs: dict[str, Numbers]


def score_pairs(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Mapping[str, list[dict[str, str]]]],
    *,
    beta: float = 0.1,
    max_length: int = 1024,
    prompt_budget: int = 512,
    batch_size: int = 4,
) -> EvalReport:
    """Score pairs in memory, as `score_encoded` does. The defaults are those of training."""
    encoder = PairTokenizer(tokenizer, max_length=max_length, prompt_budget=prompt_budget)
    rows = TokenRows.of(encoder.rows(examples))
    return score_encoded(model, EncodedSplit(rows, encoder), beta=beta, batch_size=batch_size).report


def score_encoded(model: PeftModel, test: EncodedSplit, *, beta: float, batch_size: int, once: Once = anew) -> Scored:
    """Score pairs with a PEFT model, its adapter on and off, and with its reference adapter where it has one.

    A pair is ranked right when the chosen answer has the higher log-likelihood, divided by its length in tokens. The
    reward margin is that of DPO's implicit reward (arXiv 2305.18290, equation 5). `once` keeps what does not depend on
    the adapter for the next one. Raise ArtefactError when no pair can be scored.
    """
    rows, account = test.rows, test.account
    if not len(rows):
        why = "; ".join(account.dropped())
        raise ArtefactError(f"no pair of the `test` split can be scored: {why}", hint=account.hint())
    for sentence in account.dropped():
        console.warn(f"`test` split: {sentence}")
    was_training = model.training
    model.eval()
    adapter = scores_of(model, rows, batch_size, "adapter")

    def of_base() -> Scores:
        with model.disable_adapter():
            return scores_of(model, rows, batch_size, "base")

    def of_start() -> Scores:
        with reference_active(model):
            return scores_of(model, rows, batch_size, "adapter it started from")

    base: Scores = once("scores of the base", of_base)
    start: Scores | None = once("scores of the adapter it started from", of_start) if has_reference(model) else None
    model.train(was_training)
    before = start or base
    # reward = beta * log(policy / reference) + a term that depends on the prompt alone and cancels in the margin
    margins = beta * ((adapter.chosen - before.chosen) - (adapter.rejected - before.rejected))
    gained, lost, p = mcnemar(base.are_right.tolist(), adapter.are_right.tolist())
    report = EvalReport(
        split="test",
        pairs=len(rows),
        reward_accuracy=_share(margins > 0),
        reward_margin=fmean(margins),
        base_accuracy=_share(base.are_right),
        adapter_accuracy=_share(adapter.are_right),
        longer_answer_accuracy=_share(base.chosen_longer),
        base_margin=fmean(base.per_token),
        adapter_margin=fmean(adapter.per_token),
        base_summed_accuracy=_share(base.chosen > base.rejected),
        adapter_summed_accuracy=_share(adapter.chosen > adapter.rejected),
        only_adapter_right=gained,
        only_base_right=lost,
        mcnemar_p=p,
        chosen_longer=_stratum(base, adapter, base.chosen_longer),
        chosen_shorter=_stratum(base, adapter, base.chosen_shorter),
        start=_start_scores(start, adapter) if start is not None else None,
    )
    scored = (base, adapter) if start is None else (base, adapter, start)
    return Scored(report, _columns(rows, dict(zip((*MODELS, START), scored, strict=False))))


def _columns(rows: TokenRows, scores: Mapping[str, Scores]) -> dict[str, Numbers]:
    """Return what `eval_pairs.jsonl` holds of the scores by each model."""
    any_scores = next(iter(scores.values()))
    counts = (rows.row_numbers, any_scores.chosen_length, any_scores.rejected_length)
    columns: dict[str, Numbers] = dict(zip(COUNTS, counts, strict=True))
    for model, of in scores.items():
        columns |= zip(columns_of(model), (of.chosen, of.rejected), strict=True)
    return columns


def _start_scores(start: Scores, adapter: Scores) -> StartScores:
    gained, lost, p = mcnemar(start.are_right.tolist(), adapter.are_right.tolist())
    return StartScores(
        accuracy=_share(start.are_right), margin=fmean(start.per_token), only_adapter_right=gained,
        only_start_right=lost, mcnemar_p=p,
    )  # fmt: skip


def _share(holds: Flags) -> Accuracy:
    return Accuracy.of(int(holds.sum()), len(holds))


def _stratum(base: Scores, adapter: Scores, members: Flags) -> Stratum | None:
    """Return the accuracies on the pairs that are members of a stratum, None when there are none."""
    if not members.any():
        return None
    shares = (_share(scores.are_right[members]) for scores in (base, adapter))
    return Stratum(pairs=int(members.sum()), base=next(shares), adapter=next(shares))


def scores_of(model: PeftModel, rows: TokenRows, batch_size: int, name: str) -> Scores:
    """Score rows, twice `batch_size` answers a forward pass, the longest first.

    An answer that several pairs share, after the same prompt, is scored once.
    """
    import torch

    first, which = distinct_answers(rows)
    sums, lengths = np.zeros(len(first)), np.zeros(len(first), dtype=np.int64)
    tokens = rows.lengths[first // 2, 0] + rows.lengths[first // 2, 1 + first % 2]
    order = np.argsort(-tokens, kind="stable")
    with torch.no_grad(), console.progress(f"scoring with the {name}", len(first)) as bar:
        for start in range(0, len(order), 2 * batch_size):
            batch = order[start : start + 2 * batch_size]
            sequences = [_sequence(rows[place // 2], SIDES[place % 2]) for place in first[batch].tolist()]
            # sums of hundreds of float32 values, in float64 so that a sum keeps their precision
            sums[batch] = [values.double().sum().item() for values in answer_log_probs(model, sequences)]
            lengths[batch] = [len(positions) for _, positions in sequences]
            bar.advance(bar.task_ids[0], len(batch))
    chosen, rejected = which[0::2], which[1::2]
    return Scores(sums[chosen], sums[rejected], lengths[chosen], lengths[rejected])


def distinct_answers(rows: TokenRows) -> tuple[Places, Places]:
    """Return the places where an answer is for the first time after its prompt, and which of these stands at each.

    The chosen answer of pair i has the place 2i, its rejected one 2i + 1.
    """
    known: dict[bytes, int] = {}
    first: list[int] = []
    which = np.zeros(2 * len(rows), dtype=np.int64)
    for pair, row in enumerate(rows):
        prompt = hashlib.sha256(row["prompt_ids"].tobytes()).digest()
        for place, side in enumerate(SIDES, 2 * pair):
            parts = (prompt, row[f"{side}_context"].tobytes(), b"|", row[f"{side}_ids"].tobytes())
            number = known.setdefault(hashlib.sha256(b"".join(parts)).digest(), len(known))
            if number == len(first):
                first.append(place)
            which[place] = number
    return np.array(first), which


def _sequence(row: Row, side: str) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Return the ids of a prompt with an answer, and the positions of those that are scored."""
    return sequence(row, side).astype(np.int64), scored_places(row, side)


def with_samples(
    report: EvalReport, model: PeftModel, tokenizer: PreTrainedTokenizerBase, *, once: Once = anew
) -> EvalReport:
    """Return the report with greedy answers to PROMPTS, of NEW_TOKENS tokens at most, without and with the adapter."""
    was_training = model.training
    model.eval()

    def of_base() -> list[str]:
        with model.disable_adapter():
            return [_answer(model, tokenizer, prompt) for prompt in PROMPTS]

    base = once("answers of the base", of_base)
    adapter = [_answer(model, tokenizer, prompt) for prompt in PROMPTS]
    model.train(was_training)
    samples = [
        Sample(prompt=prompt, base=before, adapter=after)
        for prompt, before, after in zip(PROMPTS, base, adapter, strict=True)
    ]
    return report.model_copy(update={"samples": samples})


def _answer(model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    chat = [{"role": "user", "content": prompt}]
    text = answer_chat(model, tokenizer, chat, max_new_tokens=NEW_TOKENS, error=UnsupportedBase)
    return redact(text, find_secrets(text))
