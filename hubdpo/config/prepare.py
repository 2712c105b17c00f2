"""Options of `hubdpo prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hubdpo.config.base import Cli, Config
from hubdpo.config.template_kwargs import HELP, METAVAR, TemplateKwargs

SHAPE, CLEAN, SPLIT, CARD, ENGINE = "What comes in", "Cleaning", "Split", "Card", "Engine"


class PrepareConfig(Config):
    source: Annotated[list[str], Cli(argument=True, metavar="SOURCE...")] = Field(
        min_length=1,
        description="Raw files, folders, globs, `-` for stdin, hf://datasets/USER/NAME[@REVISION][/PATH], or any "
        "fsspec address.",
    )
    output_dir: Annotated[str, Cli(short="-o")] = Field(description="The dataset folder to write.")
    overwrite: bool = Field(False, description="Replace the folder even when it was edited by hand.")
    dry_run: bool = Field(False, description="Report what would be written, and write nothing.")
    explain: Annotated[int, Cli(metavar="N")] = Field(
        0, ge=0, description="Show the first N rows raw, as messages, rendered and in tokens, and stop."
    )

    format: Annotated[str | None, Cli(panel=SHAPE)] = Field(
        None, description="Converter to use; detected from the rows when not given."
    )
    map: Annotated[str | None, Cli(panel=SHAPE)] = Field(
        None,
        description="Columns to use: prompt=question,chosen=good,rejected=bad, or prompt=q,first=a1,second=a2,vote=v; "
        "system=... beside them.",
    )
    pairs: Annotated[Literal["best-worst", "all", "adjacent"], Cli(panel=SHAPE)] = Field(
        "best-worst", description="Which pairs to make of several scored or ranked answers."
    )
    min_margin: Annotated[float, Cli(panel=SHAPE)] = Field(
        0.0, ge=0, description="Least difference of two scores that is a preference."
    )
    score_field: Annotated[str | None, Cli(panel=SHAPE)] = Field(
        None, description="The score to compare by, where answers have several."
    )
    labels: Annotated[str | None, Cli(panel=SHAPE)] = Field(
        None,
        description="What the values of a vote mean: first=1,second=2,tie=0; each may have several values; "
        "of one answer a row: good=1,bad=0.",
    )
    keep: Annotated[list[str], Cli(panel=SHAPE)] = Field(
        default_factory=list, description="Extra column to keep; may be given more than once."
    )

    dedupe: Annotated[Literal["exact", "near", "none"], Cli(panel=CLEAN)] = Field(
        "exact", description="Drop repeated pairs; `near` also those that say almost the same."
    )
    on_tie: Annotated[Literal["drop", "error"], Cli(panel=CLEAN)] = Field(
        "drop", description="What to do with two answers that nobody preferred."
    )
    on_conflict: Annotated[Literal["drop", "majority", "keep", "error"], Cli(panel=CLEAN)] = Field(
        "drop", description="What to do when A is over B in one row and B over A in another."
    )
    model: Annotated[str | None, Cli(panel=CLEAN)] = Field(
        None, description="Base whose tokenizer and chat template count tokens: a folder or USER/NAME[@REVISION]."
    )
    chat_template_kwargs: Annotated[TemplateKwargs, Cli(panel=CLEAN, metavar=METAVAR, text=True)] = Field(
        None, description=HELP
    )
    max_length: Annotated[int | Literal["auto"] | None, Cli(panel=CLEAN, metavar="N|auto", text=True)] = Field(
        None, description="Most tokens of prompt and answer; `auto` takes the length that keeps 99 % of the pairs."
    )
    over_length: Annotated[Literal["drop", "truncate", "keep", "error"], Cli(panel=CLEAN)] = Field(
        "drop",
        description="What to do with longer pairs; `truncate` takes the oldest turns out of the prompt, `keep` leaves "
        "them and drops those that training would cut to two equal answers.",
    )
    scan: Annotated[Literal["secrets", "none"], Cli(panel=CLEAN)] = Field(
        "none", description="Drop rows that hold credentials: `secrets`."
    )
    redact: Annotated[bool, Cli(panel=CLEAN)] = Field(
        False, description="Keep rows with credentials, each replaced by its kind."
    )
    max_reject: Annotated[float, Cli(panel=CLEAN, metavar="SHARE", text=True)] = Field(
        1.0, ge=0, le=1, description="Fail, writing nothing, when a larger share is dropped: 0.05 or 5%."
    )
    strict: Annotated[bool, Cli(panel=CLEAN)] = Field(False, description="Fail at the first row that would be dropped.")
    max_line_bytes: Annotated[int, Cli(panel=CLEAN)] = Field(
        64 * 2**20, ge=1024, description="Longest row to parse, in bytes; longer ones are dropped."
    )

    test_size: Annotated[float | None, Cli(panel=SPLIT)] = Field(
        None,
        ge=0,
        lt=1,
        description="Share of the prompts held out in the test split, drawn anew; not given, the "
        "split of the source stays, or 0.05 are drawn where it has none.",
    )
    seed: Annotated[int, Cli(panel=SPLIT)] = Field(0, ge=0, description="Changes which prompts are held out.")

    card: Annotated[str | None, Cli(panel=CARD)] = Field(
        None, description="Your own card, Markdown with a YAML front matter; or the name of a shipped one."
    )
    name: Annotated[str | None, Cli(panel=CARD)] = Field(None, description="Title of the dataset card.")
    license: Annotated[str | None, Cli(panel=CARD)] = Field(
        None, description="Licence of the data, a Hub id such as cc-by-sa-4.0."
    )
    language: Annotated[list[str], Cli(panel=CARD)] = Field(
        default_factory=list, description="Language code of the data; may be given more than once."
    )

    engine: Annotated[Literal["local", "ray"], Cli(panel=ENGINE)] = Field(
        "local", description="Where the work is done: this machine, or a Ray cluster."
    )
    num_proc: Annotated[int | None, Cli(panel=ENGINE)] = Field(
        None, ge=1, description="Worker processes; one a CPU core by default. The output is the same for any number."
    )

    @field_validator("max_reject", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip()[:-1]) / 100
        return value

    @field_validator("output_dir", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("card", mode="before")
    @classmethod
    def _card_path(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("source", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return [str(item) for item in ([value] if isinstance(value, (str, Path)) else value)]

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.max_length is not None and self.model is None:
            raise ValueError("--max-length counts tokens, so it needs --model")
        if self.chat_template_kwargs is not None and self.model is None:
            raise ValueError("--chat-template-kwargs is for counting tokens, so it needs --model")
        if self.max_length == "auto" and self.over_length == "truncate":
            raise ValueError("--over-length truncate needs a number: see what `auto` takes with --dry-run first")
        if isinstance(self.max_length, int) and self.max_length < 16:
            raise ValueError("--max-length must be 16 or more")
        if self.redact and self.scan == "none":
            raise ValueError("--redact needs --scan secrets")
        return self
