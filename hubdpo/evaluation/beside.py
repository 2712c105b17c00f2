"""Look at what an adapter changed beside the ranking of pairs: its answers, its health, and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubdpo.artefacts.manifests.answered import Answered
from hubdpo.artefacts.manifests.benchmarks import Benchmarks
from hubdpo.artefacts.manifests.evaluation import Sample
from hubdpo.artefacts.manifests.health import Health
from hubdpo.artefacts.manifests.judged import Judged
from hubdpo.artefacts.manifests.manifest import EVALUATION_FOLDER
from hubdpo.config import EvaluateConfig
from hubdpo.evaluation.answers import ANSWERS, ANSWERS_FILE, COLUMNS, ask
from hubdpo.evaluation.health import health_of, side_by_side
from hubdpo.evaluation.held_out import HeldOut
from hubdpo.evaluation.judge.ask import VERDICTS, VERDICTS_FILE
from hubdpo.evaluation.judge.judged import Panel, judged
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.lm_eval import BENCHMARKS, BENCHMARKS_FILE, Task, run_benchmarks
from hubdpo.evaluation.models import Models
from hubdpo.evaluation.ranking import Scored
from hubdpo.evaluation.samples import samples_of
from hubdpo.model.memory import room_for_scoring

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Beside(NamedTuple):
    """Parts of the report on one state of the base, in words `weights`, and the answers side by side."""

    weights: str | None
    samples: list[Sample]
    health: Health
    benchmarks: Benchmarks | None
    answered: list[Answered]
    judged: Judged | None = None


def look_beside(
    config: EvaluateConfig, models: Models, tokenizer: PreTrainedTokenizerBase, held_out: HeldOut, scored: Scored,
    output: Path, tasks: Sequence[Task], command: Callable[[int], str],
) -> Beside:  # fmt: skip
    """Let base and adapter answer prompts of a held-out split, whose pairs are scored, and run benchmark tasks.

    `command` returns the command that answers a given number of prompts at a time.
    """
    batch_size = config.per_device_eval_batch_size
    samples = samples_of(models, tokenizer)
    with room_for_scoring(batch_size, command, doing="answering", noun="prompt", kept="; earlier answers are kept"):
        answers = ask(
            models, tokenizer, chain.from_iterable(held_out.split.batches(COLUMNS)),
            kept=Kept(output / EVALUATION_FOLDER / ANSWERS_FILE, ANSWERS), count=config.max_answers,
            max_new_tokens=config.max_new_tokens, batch_size=batch_size,
        )  # fmt: skip
    answered = side_by_side(answers)
    health = health_of(models, held_out.test.rows, scored.pairs, answers, answered)
    benchmarks = run_benchmarks(
        models, tokenizer, tasks, kept=Kept(output / EVALUATION_FOLDER / BENCHMARKS_FILE, BENCHMARKS),
        limit=config.lm_eval_limit, batch_size=batch_size,
    )  # fmt: skip
    return Beside(models.weights, samples, health, benchmarks, answered)


def judged_by(panel: Panel | None, beside: Beside, output: Path) -> Beside:
    """Let a judge compare the answers, if there is one."""
    if panel is None:
        return beside
    kept = Kept(output / EVALUATION_FOLDER / VERDICTS_FILE, VERDICTS)
    verdicts, answered = judged(panel, beside.answered, kept=kept, weights=beside.weights)
    return beside._replace(judged=verdicts, answered=answered)
