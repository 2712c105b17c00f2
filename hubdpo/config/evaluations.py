"""Options of the evaluations during training, and of what follows from them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hubdpo.config.base import Cli, Config, Unfit, Values
from hubdpo.config.roles import Command, Manner, Weights

Metric = Literal["eval_loss", "eval_rewards/accuracies", "eval_rewards/margins"]


def _with_prefix(value: object) -> object:
    return f"eval_{value}" if isinstance(value, str) and not value.startswith("eval_") else value


def _named(text: str) -> tuple[str, str]:
    """Return the name and the place of NAME=DATASET, or of a place alone, whose last part is the name."""
    name, equals, place = text.partition("=")
    if equals and re.fullmatch(r"[\w.-]+", name):
        return name, place
    return _as_name(text.partition("@")[0].rstrip("/").rpartition("/")[2]), text


def _as_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def _refuse_no_name(text: str, others: Sequence[str]) -> None:
    """Raise Unfit for NAME=DATASET whose name cannot be part of a metric's, and for a name without a dataset.

    The folder of a dataset, and a revision, may have a `=` in its name. `others` are the values around it.
    """
    name, equals, place = text.partition("=")
    if not equals or "@" in name or Path(text).is_dir() or (place and _named(text)[0] == name):
        return
    meant = f"{_as_name(name) or _named(place)[0]}={place or 'DATASET'}"
    hint = " ".join(f"--eval-dataset {shlex.quote(meant if each == text else each)}" for each in others)
    why = "the name may have letters, digits, `.`, `_` and `-` alone" if place else "the dataset is missing"
    raise Unfit(f"of `{text}` {why}", hint=hint)


class EvaluationOptions(Config):
    panel = "Evaluations and the choice of a checkpoint"

    eval_steps: Manner[int] = Field(50, ge=1, description="Steps between evaluations on the test split.")
    max_eval_pairs: Manner[int] = Field(512, ge=1, description="Maximum test pairs per evaluation during training.")
    eval_dataset: Command[Annotated[list[str], Cli(metavar="[NAME=]DATASET", call_type=list[str | Path])]] = Field(
        [],
        description="Further dataset to evaluate on, a folder or USER/NAME[@REVISION]: its metrics are eval_NAME_loss "
        "and so on. Repeatable.",
    )
    load_best_model_at_end: Weights[bool] = Field(
        False, description="Take the adapter of the best checkpoint, instead of the last step's."
    )
    metric_for_best_model: Weights[Annotated[Metric, BeforeValidator(_with_prefix)]] = Field(
        "eval_loss", description="What the best checkpoint is best in, on the test split."
    )
    early_stopping_patience: Weights[int | None] = Field(
        None, ge=1, description="Stop after this many evaluations in a row without a better --metric-for-best-model."
    )
    early_stopping_threshold: Weights[float] = Field(
        0.0, ge=0, description="Difference by which an evaluation must be better for --early-stopping-patience."
    )

    @field_validator("eval_dataset")
    @classmethod
    def _one_name_each(cls, value: list[str]) -> list[str]:
        for text in value:
            _refuse_no_name(text, value)
        names = [name for name, _ in map(_named, value)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise Unfit(f"two sets have the name `{twice[0]}`", hint="give one another: --eval-dataset NAME=DATASET")
        return value

    @property
    def evaluation_sets(self) -> dict[str, str]:
        """The further datasets, by name."""
        return dict(map(_named, self.eval_dataset))

    @model_validator(mode="before")
    @classmethod
    def _saved_where_evaluated(cls, values: Values) -> Values:
        """Save a checkpoint at each evaluation, unless the options say where; transformers asks for the same."""
        if not values.get("load_best_model_at_end"):
            return values
        every, saved = values.get("eval_steps", cls.model_fields["eval_steps"].default), values.get("save_steps")
        if saved is None:
            return {**values, "save_steps": every}
        if isinstance(every, int) and isinstance(saved, int) and every > 0 and saved % every:
            raise Unfit(
                f"--load-best-model-at-end compares checkpoints by their evaluations, and with checkpoints every "
                f"{saved} steps and evaluations every {every} some have none",
                hint=f"--save-steps {max(saved // every, 1) * every}",
            )
        return values

    @property
    def chooses(self) -> bool:
        """Whether the adapter depends on the evaluations."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None
