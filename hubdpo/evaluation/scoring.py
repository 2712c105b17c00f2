"""How base and adapter rank held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from hubdpo import console
from hubdpo.artefacts.manifests.accuracy import Accuracy, Stratum, mcnemar
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.data.tokens.tokenize import PairTokenizer, scored_places
from hubdpo.errors import ArtefactError

POSITIONS_AT_ONCE = 1024
"""Positions whose logits are held together: 1,024 rows of Qwen2's vocabulary take 0.6 GB in float32."""


@dataclass(frozen=True)
class Score:
    """Summed log-probability of the answers of one pair, in nats, and their lengths in tokens."""

    chosen: float
    rejected: float
    chosen_length: int
    rejected_length: int

    @property
    def per_token(self) -> float:
        """Chosen less rejected, each divided by its length: nats per token."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length

    @property
    def is_right(self) -> bool:
        return self.per_token > 0


def score_pairs(
    model: Any,
    tokenizer: Any,
    examples: Iterable[Mapping[str, Any]],
    *,
    beta: float = 0.1,
    max_length: int = 1024,
    prompt_budget: int = 512,
    batch_size: int = 4,
    split: str = "test",
) -> EvalReport:
    """Score a PEFT model with its adapter on and off. The defaults are those of training.

    Raise ArtefactError when no pair is left to score.
    """
    encoder = PairTokenizer(tokenizer, max_length=max_length, prompt_budget=prompt_budget)
    rows = encoder.rows(examples)
    if not rows:
        why = "; ".join(encoder.dropped())
        raise ArtefactError(f"no pair of the `{split}` split can be scored: {why}", hint="raise `--max-length`")
    for sentence in encoder.dropped():
        console.warn(f"`{split}` split: {sentence}")
    was_training = model.training
    model.eval()
    with torch.no_grad():
        adapter = _scores(model, rows, tokenizer.pad_token_id, batch_size, "adapter")
        with model.disable_adapter():
            base = _scores(model, rows, tokenizer.pad_token_id, batch_size, "base")
    model.train(was_training)
    # DPO's implicit reward, beta * log(policy / reference), up to a term both answers share (arXiv 2305.18290, eq. 5)
    margins = [beta * ((a.chosen - b.chosen) - (a.rejected - b.rejected)) for a, b in zip(adapter, base, strict=True)]
    count = len(rows)
    gained, lost, p = mcnemar([score.is_right for score in base], [score.is_right for score in adapter])
    return EvalReport(
        split=split,
        pairs=count,
        reward_accuracy=Accuracy.of(sum(margin > 0 for margin in margins), count),
        reward_margin=sum(margins) / count,
        base_accuracy=_accuracy(base),
        adapter_accuracy=_accuracy(adapter),
        longer_answer_accuracy=Accuracy.of(sum(s.chosen_length > s.rejected_length for s in base), count),
        base_margin=sum(score.per_token for score in base) / count,
        adapter_margin=sum(score.per_token for score in adapter) / count,
        base_summed_accuracy=Accuracy.of(sum(score.chosen > score.rejected for score in base), count),
        adapter_summed_accuracy=Accuracy.of(sum(score.chosen > score.rejected for score in adapter), count),
        only_adapter_right=gained,
        only_base_right=lost,
        mcnemar_p=p,
        chosen_longer=_stratum(base, adapter, lambda score: score.chosen_length > score.rejected_length),
        chosen_shorter=_stratum(base, adapter, lambda score: score.chosen_length < score.rejected_length),
    )


def _accuracy(scores: Sequence[Score]) -> Accuracy:
    return Accuracy.of(sum(score.is_right for score in scores), len(scores))


def _stratum(base: list[Score], adapter: list[Score], belongs: Callable[[Score], bool]) -> Stratum | None:
    places = [place for place, score in enumerate(base) if belongs(score)]
    if not places:
        return None
    return Stratum(
        pairs=len(places),
        base=_accuracy([base[place] for place in places]),
        adapter=_accuracy([adapter[place] for place in places]),
    )


def _scores(model: Any, rows: Sequence[dict[str, list[int]]], pad: int, batch_size: int, name: str) -> list[Score]:
    scores: list[Score] = []
    with console.progress(f"scoring with the {name}", len(rows)) as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            sequences = [
                (row["prompt_ids"] + row[f"{side}_ids"], scored_places(row, side))
                for side in ("chosen", "rejected")
                for row in batch
            ]
            sums = _answer_log_probs(model, sequences, pad)
            lengths = [len(places) for _, places in sequences]
            for i, j in enumerate(range(len(batch), len(sequences))):
                scores.append(Score(sums[i], sums[j], lengths[i], lengths[j]))
            bar.advance(bar.task_ids[0], len(batch))
    return scores


def _answer_log_probs(model: Any, sequences: list[tuple[list[int], list[int]]], pad: int) -> list[float]:
    """Return the summed log-probability of the tokens at the places given with each sequence."""
    causal_lm = model.get_base_model()
    ids = pad_sequence([torch.tensor(ids) for ids, _ in sequences], batch_first=True, padding_value=pad).to(
        model.device
    )
    lengths = torch.tensor([len(ids) for ids, _ in sequences], device=ids.device)
    mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
    hidden = causal_lm.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
    sums = []
    for row, (_, places) in enumerate(sequences):
        total = torch.zeros((), dtype=torch.float64)
        for at in torch.tensor(places, device=ids.device).split(POSITIONS_AT_ONCE):
            # the state at a position predicts the token after it
            log_probs = causal_lm.lm_head(hidden[row, at - 1]).float().log_softmax(dim=-1)
            total += log_probs.gather(1, ids[row, at, None]).double().sum().cpu()
        sums.append(total.item())
    return sums
