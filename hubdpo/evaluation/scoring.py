"""Score answers: the log-probability that a model gives each of them, computed once for answers that pairs share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, FiniteFloat, TypeAdapter

from hubdpo import console
from hubdpo.data.encoded.rows import SIDES, TokenRows, sequence
from hubdpo.data.tokens.tokenize import scored_places
from hubdpo.evaluation.kept import Kept
from hubdpo.model.log_probs import answer_log_probs

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

T = TypeVar("T")
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
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
    def right(self) -> npt.NDArray[np.float64]:
        """How far each pair is ranked right: whether the chosen answer is the likelier one a token."""
        return ranked_right(self.per_token)


def ranked_right(margins: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return 1 where the chosen answer has more than the rejected one, 0 where it has less, and 1/2 for a tie.

    A model, or a rule, that cannot tell two answers apart is right as often as a coin.
    """
    right: npt.NDArray[np.float64] = (np.sign(margins) + 1.0) / 2
    return right


class Score(BaseModel):
    """A kept score: the summed log-probability of an answer."""

    sum: FiniteFloat


SCORES = TypeAdapter(Score)


def scores_of(
    model: PreTrainedModel | PeftModel,
    rows: TokenRows,
    batch_size: int,
    name: str,
    kept: Kept | None = None,
    model_key: str = "",
) -> Scores:
    """Score rows, 2 `batch_size` answers a pass, the longest first; each once, and not at all if `kept` has it."""
    import torch

    distinct = distinct_answers(rows)
    # the ids of each prompt with its answer, and the positions of those that are scored
    answers = [
        (sequence(row, side).astype(np.int64), scored_places(row, side))
        for row, side in ((rows[place // 2], SIDES[place % 2]) for place in distinct.first.tolist())
    ]
    lengths = np.array([len(positions) for _, positions in answers])
    keys = [_key(model_key, *answer) for answer in answers] if kept is not None else []
    known = [kept.get(key) for key in keys] if kept is not None else [None] * len(answers)
    sums = np.array([result["sum"] if result is not None else np.nan for result in known])
    order = np.argsort([-len(ids) for ids, _ in answers], kind="stable")
    order = order[[known[place] is None for place in order]]
    with torch.no_grad(), console.progress(f"scoring with the {name}", len(order)) as bar:
        for start in range(0, len(order), 2 * batch_size):
            batch = order[start : start + 2 * batch_size]
            # sums of hundreds of float32 values, in float64 so that a sum keeps their precision
            values = answer_log_probs(model, [answers[place] for place in batch])
            sums[batch] = [each.double().sum().item() for each in values]
            if kept is not None:
                kept.add({keys[place]: {"sum": float(sums[place])} for place in batch})
            bar.advance(bar.task_ids[0], len(batch))
    chosen, rejected = distinct.which[0::2], distinct.which[1::2]
    return Scores(sums[chosen], sums[rejected], lengths[chosen], lengths[rejected])


def _key(model_key: str, ids: npt.NDArray[np.int64], positions: list[int]) -> str:
    """Return the key of the score of an answer: the model, all token ids, and the positions that count."""
    parts = (model_key.encode(), ids.tobytes(), np.array(positions).tobytes())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class Distinct(NamedTuple):
    """The places where an answer is for the first time after its prompt, and which of these stands at each place."""

    first: Places
    which: Places


def distinct_answers(rows: TokenRows) -> Distinct:
    """Find the answers that have to be scored.

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
    return Distinct(np.array(first), which)
