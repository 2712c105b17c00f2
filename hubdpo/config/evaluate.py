"""Options of `hubdpo evaluate`, in groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hubdpo.config.base import ADAPTERS, MODELS, Cli, Config, Unfit, flag_of
from hubdpo.config.torch_names import Device


class SubjectOptions(Config):
    panel = "What is evaluated"

    model: Annotated[
        str,
        Cli(
            argument=True, metavar="RUN|DIR|USER/NAME[@REV]", names=MODELS,
            call_type=str | Path,
        ),
    ] = Field(min_length=1, description="A run folder, a release, or any PEFT adapter or merged model.")  # fmt: skip
    dataset: Annotated[
        list[str], Cli(metavar="DATASET", names=("dataset",), call_type=str | Path | list[str | Path])
    ] = Field(
        [],
        description="Dataset folder or USER/NAME[@REVISION]; may be repeated. By default the dataset of the run.",
    )
    model_name_or_path: Annotated[str | None, Cli(metavar="BASE", call_type=str | Path | None)] = Field(
        None, description="Path or Hub id of the base, if the adapter names none or it has moved."
    )
    adapter: Annotated[str | None, Cli(metavar="ADAPTER", names=ADAPTERS, call_type=str | Path | None)] = Field(
        None, description="Adapter that the run started from, if it has moved since training."
    )
    against: Annotated[str | None, Cli(metavar="ADAPTER", names=ADAPTERS, call_type=str | Path | None)] = Field(
        None, description="Another adapter of the same base, to compare on the same pairs: a folder or USER/NAME[@REV]."
    )
    output_dir: Annotated[Path | None, Cli(short="-o", metavar="DIR")] = Field(
        None, description="Folder for eval.json; by default the run folder, else `evaluation-NAME`."
    )


class ScoringOptions(Config):
    panel = "Scoring"

    max_pairs: int = Field(2000, ge=1, description="Maximum number of pairs to score of each dataset.")
    max_length: int | None = Field(
        None, ge=2, description="Maximum tokens of a pair; by default that of the training, else 1024."
    )
    base_weights: Literal["both", "as-trained", "original"] = Field(
        "both",
        description="Measure on the base as training quantised it, on the original weights, which other programs load, "
        "or on both.",
    )
    load_in_4bit: bool | None = Field(
        None, description="Whether the adapter was trained on NF4 weights; by default as its run says, else not."
    )
    per_device_eval_batch_size: int = Field(4, ge=1, description="Pairs per forward pass, and answers per batch.")
    device: Device = Field("auto", description="Device to evaluate on.")


class AnswerOptions(Config):
    panel = "Answers"

    max_answers: int = Field(
        32, ge=0, description="Number of held-out prompts that base and adapter answer, drawn with a seed; 0 for none."
    )
    max_new_tokens: int = Field(256, ge=1, description="Maximum tokens of an answer.")
    publish_samples: bool = Field(
        False,
        description="Let the card quote held-out prompts and their answers, which otherwise stay here.",
    )


class JudgeOptions(Config):
    panel = "Judge"

    judge: Annotated[str | None, Cli(metavar="URL")] = Field(
        None,
        description="URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, whose model compares the "
        "answers. Its key is read from the environment variable HUBDPO_JUDGE_KEY, else OPENAI_API_KEY.",
    )
    judge_model: Annotated[str | None, Cli(metavar="NAME")] = Field(
        None, min_length=1, description="Name of the model on that server."
    )
    rubric: Annotated[str, Cli(metavar="NAME|FILE")] = Field(
        "helpful", min_length=1, description="Rubric by name, or a file of your own."
    )
    judge_max_tokens: int = Field(512, ge=16, description="Maximum tokens of what the judge says of a pair.")
    judge_requests: int = Field(8, ge=1, le=256, description="Requests to the judge at the same time.")

    @model_validator(mode="after")
    def _a_judge_has_a_model(self) -> JudgeOptions:
        if self.judge is not None and self.judge_model is None:
            raise Unfit("`--judge` needs the name of a model", hint="--judge-model NAME")
        if self.judge is None and self.judge_model is not None:
            raise Unfit("`--judge-model` needs the server that has it", hint="--judge http://127.0.0.1:8000/v1")
        return self


class BenchmarkOptions(Config):
    panel = "Benchmarks"

    lm_eval: Annotated[list[str], Cli(metavar="TASK")] = Field(
        [], description="Tasks of lm-evaluation-harness to run, where it is installed: a name, or a YAML file."
    )
    lm_eval_limit: int | None = Field(None, ge=1, description="Maximum number of examples of each task.")


# pydantic collects the fields of the last base first
class EvaluateConfig(BenchmarkOptions, JudgeOptions, AnswerOptions, ScoringOptions, SubjectOptions):
    @model_validator(mode="after")
    def _nothing_is_unused(self) -> EvaluateConfig:
        of_answers = {"--judge": self.judge is not None, "--publish-samples": self.publish_samples}
        if self.max_answers == 0 and any(of_answers.values()):
            option = next(name for name, is_set in of_answers.items() if is_set)
            raise Unfit(f"`{option}` needs answers, and `--max-answers` is 0", hint="leave `--max-answers` out")
        for name in ("rubric", "judge_max_tokens", "judge_requests"):
            if name in self.model_fields_set and self.judge is None:
                raise Unfit(f"`{flag_of(name)}` is for a judge, and none is given", hint="add `--judge URL`")
        if self.lm_eval_limit is not None and not self.lm_eval:
            raise Unfit("`--lm-eval-limit` is for tasks, and none is given", hint="add `--lm-eval TASK`")
        return self
