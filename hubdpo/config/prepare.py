"""Options of `hubdpo prepare`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hubdpo.config.base import Cli, Config, NumberOrAuto, Unfit, flag_of
from hubdpo.config.chat_template import HELP, KWARGS_HELP, ChatTemplate, TemplateKwargs
from hubdpo.config.description import MEANINGS, PLACES, Description, SourceConfig, as_share, percent
from hubdpo.config.name_values import write_pairs
from hubdpo.config.unknown import joined
from hubdpo.errors import ConfigError


class FolderOptions(Config):
    panel = "Source and folder"

    source: Annotated[
        list[str], Cli(argument=True, metavar="SOURCE...", call_type=object, needed_unless=("sources",))
    ] = Field(
        [],
        description="Files, folders, globs, `-` for stdin, hf://datasets/USER/NAME[@REVISION][/PATH], or any fsspec "
        "URL.",
    )
    sources: Annotated[list[SourceConfig], Cli(file_only=True, call_type=list[dict[str, Any]])] = Field(
        [],
        description="In a config file, instead of SOURCE: sources of different shapes, each with its description.",
    )
    output_dir: Annotated[
        str, Cli(short="-o", metavar="DIR", call_type=str | Path, needed_unless=("describe", "explain"))
    ] = Field("", description="Dataset folder to write; needed unless `--describe` or `--explain` stops before.")
    overwrite: bool = Field(False, description="Replace the folder even if it was edited by hand.")
    dry_run: bool = Field(False, description="Report the result without writing anything.")
    describe: bool = Field(False, description="Print the description of the source as YAML, then stop.")
    explain: Annotated[int, Cli(metavar="N")] = Field(
        0, ge=0, description="Show the first N rows raw, as messages, rendered and tokenised, then stop."
    )

    @property
    def stops_early(self) -> bool:
        """Whether the rows are only looked at."""
        return self.describe or self.explain > 0

    @field_validator("sources", mode="before")
    @classmethod
    def _described(cls, value: object) -> object:
        items = value if isinstance(value, list) else [value]
        return [SourceConfig.item(item, f"item {number} of `sources`") for number, item in enumerate(items, 1)]

    @field_validator("source", mode="before")
    @classmethod
    def _source_list(cls, value: object) -> list[str]:
        items = list(value) if isinstance(value, Iterable) and not isinstance(value, (bytes, dict)) else [value]
        for number, item in enumerate(items, 1):
            if isinstance(item, Iterable) and not isinstance(item, str):  # YAML makes a number of a folder `2024`
                raise Unfit(
                    f"item {number} is neither a path nor an address: {type(item).__name__}",
                    hint="give paths and addresses alone; hubdpo.prepare(rows, output_dir) takes rows in memory",
                )
        return [str(os.fspath(item) if isinstance(item, os.PathLike) else item) for item in items]


class FormatOptions(Config):
    panel = "Format of the source"

    converter: str | None = Field(None, description="Converter to use; by default it is detected from the rows.")
    map: Annotated[str | None, Cli(call_type=str | list[str] | dict[str, str] | None)] = Field(
        None,
        description="Columns to use: prompt=question,chosen=good,rejected=bad, or prompt=q,first=a1,second=a2,vote=v; "
        "add system=... for a system prompt.",
    )
    pairs: Literal["best-worst", "best-each", "adjacent", "all"] = Field(
        "best-worst",
        description="Pairs to build from several answers: the best and the worst, the best and each other, neighbours "
        "in the order of scores, or every two.",
    )
    min_margin: float = Field(0.0, ge=0, description="Minimum score difference that counts as a preference.")
    score_field: str | None = Field(None, description="Score to compare, if answers have several.")
    labels: Annotated[str | None, Cli(call_type=str | list[str] | dict[str, Any] | None)] = Field(
        None,
        description="Meaning of vote values, such as first=1,second=2,tie=0; a key may be repeated, and a value with a "
        "comma is in double quotes. For one answer per row: good=1,bad=0.",
    )
    keep: list[str] = Field([], description="Extra column to keep; repeatable.")
    keep_scores: bool = Field(
        False,
        description="Keep the scores of the answers as `score_chosen` and `score_rejected`, for --margin-columns of "
        "train; for ranks, the rank with a minus.",
    )

    @field_validator("map", "labels", mode="before")
    @classmethod
    def _as_typed(cls, value: object, info: ValidationInfo) -> object:
        """Write a mapping, or a list of NAME=VALUE, as it is typed. In a mapping a name may have a list of values."""
        if isinstance(value, (str, list, dict)) and not value:
            raise Unfit("it is empty", hint=f"leave `--{info.field_name}` out")
        if isinstance(value, list):
            if other := [item for item in value if not isinstance(item, str)]:
                raise Unfit(f"{other[0]!r} is not NAME=VALUE", hint="a dict, or a list of texts with a `=`")
            return write_pairs((name, given) for name, _, given in (item.partition("=") for item in value))
        if not isinstance(value, dict):
            return value
        pairs = [(name, item) for name, v in value.items() for item in (v if isinstance(v, (list, tuple)) else [v])]
        for name, item in pairs:
            if item is None:
                raise Unfit(
                    f"`{name}` is None, and a missing value cannot be a vote or a column",
                    hint="give the missing values a word in the source, or leave it out",
                )
            if isinstance(item, Iterable) and not isinstance(item, str):
                raise Unfit(f"`{name}` is of type {type(item).__name__}", hint="a text or a number, or a list of them")
        return write_pairs(pairs)


class CleaningOptions(Config):
    panel = "Cleaning and length"

    dedupe: Literal["exact", "near", "none"] = Field(
        "exact", description="Drop duplicate pairs; `near` also drops pairs with almost the same text."
    )
    on_tie: Literal["drop", "error"] = Field("drop", description="Action for two answers without a preference.")
    on_conflict: Literal["drop", "majority", "keep", "error"] = Field(
        "drop", description="Action when rows prefer A over B and B over A."
    )
    model: Annotated[str | None, Cli(call_type=str | Path | None)] = Field(
        None, description="Base whose tokenizer and chat template count tokens: a folder or USER/NAME[@REVISION]."
    )
    chat_template: ChatTemplate = Field(None, description=HELP)
    chat_template_kwargs: TemplateKwargs = Field(None, description=KWARGS_HELP)
    max_length: NumberOrAuto = Field(
        None, description="Maximum tokens, prompt plus answer; `auto` uses the length that keeps 99 % of the pairs."
    )
    over_length: Literal["drop", "truncate", "keep", "error"] = Field(
        "drop",
        description="Action for longer pairs. `truncate` removes the oldest turns of the prompt; `keep` keeps the pair "
        "unless training would truncate both answers to the same text.",
    )
    scan: Literal["secrets", "none"] = Field("none", description="Drop rows that contain credentials: `secrets`.")
    redact: bool = Field(False, description="Keep rows with credentials, and replace each credential by its kind.")
    max_reject: Annotated[float, Cli(metavar="SHARE", call_type=float | str)] = Field(
        1.0, ge=0, le=1, description="Fail without writing if a larger share of rows is dropped: 0.05 or 5%."
    )
    strict: bool = Field(False, description="Fail at the first row that would be dropped.")
    max_line_bytes: int = Field(64 * 2**20, ge=1024, description="Maximum bytes of a row; longer rows are dropped.")

    @field_validator("max_length")
    @classmethod
    def _some_tokens(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 16:
            raise Unfit("it must be 16 or more", hint="--max-length 1024")
        return value

    _percent_of_rows = field_validator("max_reject", mode="before")(percent)


class SplitOptions(Config):
    panel = "Split"

    split: Annotated[str | None, Cli(metavar="published|none|COLUMN")] = Field(
        None,
        description="Keep the splits of the source, as names of files and lists or a column `split` tell them; draw a "
        "new one; or keep those that another column names, such as `meta.part`.",
    )
    test_size: Annotated[float | None, Cli(metavar="SHARE", call_type=float | str | None)] = Field(
        None,
        ge=0,
        lt=1,
        description="Share of prompts to hold out as a new test split. By default the splits of the source are kept, "
        "or 0.05 is held out.",
    )
    on_leak: Literal["drop", "keep", "error"] = Field(
        "drop", description="Action for train pairs whose prompt is in the published test split."
    )
    seed: int = Field(0, ge=0, description="Seed that selects the held-out prompts.")

    @field_validator("split")
    @classmethod
    def _no_share(cls, value: str | None) -> str | None:
        if (share := as_share(value)) is not None:
            share = share / 100 if 1 <= share < 100 else share
            instead = f"; --test-size {share:g}" if 0 <= share < 1 else ""
            raise Unfit(f"`{value}` is a share, not a column", hint=f"leave `--split` out{instead}")
        if value in ("train", "test"):
            of_all = {
                "train": "leave `--split` out; --test-size 0",
                "test": "in a config file, sources: [{path: ..., split: test}]",
            }
            raise Unfit(f"`{value}` is a split, not what tells the split of rows", hint=of_all[value])
        return value

    @field_validator("test_size", mode="before")
    @classmethod
    def _share(cls, value: object) -> object:
        if isinstance(value, (int, str)) and (text := str(value).strip()).isdecimal() and 1 <= int(text) < 100:
            raise Unfit(f"a share is below 1, or a percentage: {text}%", hint=f"--test-size {text}%")
        return percent(value)


class CardOptions(Config):
    panel = "Card"

    card: Annotated[str | None, Cli(call_type=str | Path | None)] = Field(
        None, description="Your own dataset card (Markdown with YAML front matter), or the name of a bundled card."
    )
    name: str | None = Field(None, description="Title of the dataset card.")
    license: str | None = Field(None, description="Licence of the data, a Hub id such as cc-by-sa-4.0.")
    language: list[str] = Field(
        [], description="Language code of the data; repeatable. By default it is found in the rows."
    )


class EngineOptions(Config):
    panel = "Engine"

    engine: Literal["local", "ray"] = Field("local", description="Run on this machine, or on a Ray cluster.")
    num_proc: int | None = Field(
        None, ge=1, description="Worker processes, by default one per CPU core. The output does not depend on it."
    )


# pydantic collects the fields of the last base first
class PrepareConfig(
    EngineOptions, CardOptions, SplitOptions, CleaningOptions, Description, FormatOptions, FolderOptions
):
    @model_validator(mode="before")
    @classmethod
    def _map_alone(cls, values: Any) -> Any:
        """Check that no other option names a column beside `--map`."""
        if values.get("map") and (given := [name for name in PLACES if values.get(name)]):
            flags = [f"`{flag_of(name)}`" for name in given]
            hint = "; ".join(f"leave {flag} out" for flag in flags)
            raise Unfit(f"columns are named both by `--map` and by {joined(flags)}", hint=hint)
        return values

    @classmethod
    def _missing(cls, names: Sequence[str], given: dict[str, Any]) -> ConfigError:
        problem = super()._missing(names, given)
        sources = given.get("source")
        sources = list(map(str, sources)) if isinstance(sources, list) else []
        is_new = [_is_new(source) for source in sources]
        if [*names] == ["output_dir"] and len(is_new) > 1 and is_new[-1] and not any(is_new[:-1]):
            problem.hint = f"give `{sources[-1]}` as `--output-dir`"
        return problem

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # the columns are given once: by `sources`, a converter, `--map` or their own options
        of_source = {*Description.model_fields, "converter", "map", "labels"}
        if self.sources and (given := sorted(of_source & self.model_fields_set)):
            name = given[0]
            raise Unfit(f"`{name}` is given beside `sources`", hint=f"move `{name}` into the items of `sources`")
        if self.sources and self.source:
            raise Unfit(
                f"both SOURCE and `sources` are given: {self.source[0]}",
                hint=f"add `path: {self.source[0]}` to `sources`",
            )
        if self.names_columns and self.converter not in (None, "columns"):
            raise Unfit("both `--converter` and columns are given", hint="leave `--converter` out")
        if self.labels and any(getattr(self, name) for name in MEANINGS):
            raise Unfit("the values are given twice: by `--labels` as well", hint="leave `--labels` out")
        if self.max_length is not None and self.model is None:
            raise Unfit("--max-length counts tokens, so it needs --model", hint="--model Qwen/Qwen2-7B-Instruct")
        for name in ("chat_template", "chat_template_kwargs"):
            if getattr(self, name) is not None and self.model is None:
                message = f"{flag_of(name)} is used to count tokens, so it needs --model"
                raise Unfit(message, hint="--model Qwen/Qwen2-7B-Instruct")
        if self.max_length == "auto" and self.over_length == "truncate":
            message = "--over-length truncate needs a number: run with --dry-run to see what `auto` selects"
            raise Unfit(message, hint="--max-length 1024")
        if self.redact and self.scan == "none":
            raise Unfit("--redact needs --scan secrets", hint="--scan secrets")
        return self


def _is_new(name: str) -> bool:
    """Return whether a word is the name of a folder that is not there yet, rather than a source."""
    return re.fullmatch(r"[^*?\[:.`]*[^*?\[:.`/-]/?", name) is not None and not os.path.exists(name)  # noqa: PTH110
