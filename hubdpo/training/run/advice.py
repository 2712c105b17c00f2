"""Explain the patterns in a run's metrics that puzzle people, and say what to do about them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean

from hubdpo import console

Line = Mapping[str, float]

CHANCE_LOSS = math.log(2)
"""`sigmoid` loss when chosen and rejected have equal rewards, as at the start of every run."""
FLAT = 0.002
"""Distance from CHANCE_LOSS within which the loss has not moved."""
HELD_OUT = "eval_rewards/accuracies"
RANKED = 0.6
"""Fraction of pairs from which the adapter prefers the chosen answers, however small the margins are."""
FALLEN = 1.0
"""Nats by which a mean log-probability must fall to be reported."""
FEWEST_LINES = 8
WITH_LIKELIHOOD = {"sft", "cpo", "orpo"}
"""Losses that keep the chosen answer up already."""
RISEN = 0.02
"""Fraction of its minimum by which the held-out loss must rise to be reported."""


def explain_metrics(
    lines: Sequence[Line],
    *,
    losses: Sequence[str],
    learning_rate: float,
    test_pairs: int,
    moved: bool = False,
    checkpoints: Collection[int] = (),
) -> list[str]:
    """Return sentences about the lines of a metrics.jsonl, most urgent first; none for a run without such a pattern.

    The first and the last quarter of the steps are compared. `test_pairs` is the number of held-out pairs that were
    ranked, `checkpoints` the steps that are still saved. `moved` tells that weights or margins change
    what the losses usually are.
    """
    steps = [line for line in lines if "loss" in line]
    held_out = [line[HELD_OUT] for line in lines if HELD_OUT in line]
    sentences = [*_about_overfitting(lines, steps, checkpoints)]
    if len(steps) < FEWEST_LINES:
        return sentences
    quarter = len(steps) // 4
    first, last = steps[:quarter], steps[-quarter:]
    if losses == ["sigmoid"] and not moved:
        right = held_out[-1] if held_out else _mean(last, "rewards/accuracies")
        sentences += _about_the_loss(_mean(first, "loss"), _mean(last, "loss"), right, learning_rate)
    if held_out and test_pairs:
        sentences += _about_held_out(held_out[-1], test_pairs)
    return sentences if WITH_LIKELIHOOD & {*losses} else [*sentences, *_about_log_probs(first, last)]


def _about_overfitting(lines: Sequence[Line], steps: Sequence[Line], checkpoints: Collection[int]) -> Iterator[str]:
    held_out = [(line["eval_loss"], int(line["step"])) for line in lines if "eval_loss" in line]
    if not held_out:
        return
    (lowest, best), (last, end) = min(held_out), held_out[-1]
    until = [line for line in steps if line["step"] <= best]
    since = [line for line in steps if line["step"] > best]
    if last - lowest <= RISEN * abs(lowest) or not until or not since:
        return
    # as many steps before the best evaluation as after it
    count = min(len(until), len(since))
    before, after = _mean(until[-count:], "loss"), _mean(since[-count:], "loss")
    if after >= before:
        return
    where = f"its adapter is in `checkpoint-{best}`" if best in checkpoints else "no checkpoint of that step is kept"
    yield (
        f"the held-out loss rose from {lowest:.4f} at step {best:,} to {last:.4f} at step {end:,} while the training "
        f"loss fell from {before:.4f} to {after:.4f}: the run overfits, and step {best:,} was the best; {where}; "
        "train again with `--load-best-model-at-end`, or on more pairs"
    )


def _about_the_loss(first: float, last: float, right: float, learning_rate: float) -> Iterator[str]:
    if last > max(first, CHANCE_LOSS) + 0.05:
        yield (
            f"the loss rose from {first:.3f} to {last:.3f}: the learning rate is too high; "
            f"try `--learning-rate {learning_rate / 10:.2g}`"
        )
    elif abs(last - CHANCE_LOSS) < FLAT:
        more = f"train for more steps, or try `--learning-rate {learning_rate * 10:.2g}`"
        if right >= RANKED:
            yield (
                f"the loss is still {last:.4f}, near ln 2, although the adapter prefers the chosen answer in "
                f"{right:.0%} of the pairs: it has changed little; {more}"
            )
        else:
            yield f"the loss stayed at {last:.4f}, which is ln 2: the adapter has learned nothing yet; {more}"


def _about_held_out(accuracy: float, test_pairs: int) -> Iterator[str]:
    # half a 95 % interval around chance, for so many pairs (normal approximation of the binomial)
    margin = 1.96 * 0.5 / math.sqrt(test_pairs)
    if abs(accuracy - 0.5) <= margin:
        yield (
            f"held-out accuracy is {accuracy:.2f}, which {console.counted(test_pairs, 'pair')} cannot tell from "
            f"chance (0.5 ± {margin:.2f}): use more pairs, more steps, or a preference that can be learned"
        )


def _about_log_probs(first: Sequence[Line], last: Sequence[Line]) -> Iterator[str]:
    chosen, rejected = (_mean(last, f"logps/{side}") - _mean(first, f"logps/{side}") for side in ("chosen", "rejected"))
    if chosen < -FALLEN and rejected < -FALLEN:
        yield (
            f"the log-probabilities of both answers fell (chosen {chosen:+.1f}, rejected {rejected:+.1f} nats): usual "
            "for losses that only ask the rejected one to fall further; add the loss `sft` with a small weight "
            "to keep the chosen one up"
        )


def _mean(lines: Sequence[Line], key: str) -> float:
    values = [line[key] for line in lines if key in line]
    return fmean(values) if values else math.nan
