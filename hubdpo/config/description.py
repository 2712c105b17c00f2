"""The description of a source: where the prompt, the answers and the preference are in its rows.

The same keys are options of `hubdpo prepare`, for all its sources, and keys of an item of `sources` in a config file.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hubdpo.config.base import Cli, Config, Unfit
from hubdpo.config.name_values import read_pairs, write_pairs
from hubdpo.errors import ConfigError

OPEN = "..."
"""The placeholder of a suggestion that a person must fill in."""
COLUMN = "COLUMN"
"""What stands in a hint for the name of a column that only the rows can tell."""
PLACES = (
    "prompt", "system", "tools", "history", "chosen", "rejected", "answers", "scores", "ranks", "vote", "answer",
    "label", "margin",
)  # fmt: skip
"""Options that name columns, or places inside them."""
MEANINGS = ("first", "second", "tie", "good", "bad")
"""Options that say what the values of a vote or label mean."""
ENCODINGS = (
    "utf-8", "utf-16", "gb18030", "gbk", "gb2312", "big5", "shift_jis", "euc-jp", "euc-kr", "cp949", "koi8-r",
    "latin-1", "iso-8859-1", "windows-1250", "windows-1251", "windows-1252", "cp1252",
)  # fmt: skip
"""Names that a misspelt one may stand for."""
ROLES = ("system", "user", "assistant", "tool")
NAMES = Annotated[list[str], Cli(call_type=str | list[str])]
VALUES = Annotated[list[str], Cli(metavar="VALUE", call_type=str | int | list[str | int])]


class Description(Config):
    """Where things are in a row. Without any of `PLACES`, the converter is given or detected."""

    panel = "Description of the source"

    prompt: NAMES = Field(
        [],
        description="Column with the prompt, text or messages, or a place in it: `question.text`, `turns.0.value`. "
        "Repeat it for texts that are joined by a line break.",
    )
    system: str | None = Field(None, description="Column with the system prompt.")
    tools: str | None = Field(None, description="Column with the tools that the model may call.")
    history: str | None = Field(None, description="Column with the turns before the prompt.")
    chosen: str | None = Field(None, description="Column with the better answer, or with all of its conversation.")
    rejected: str | None = Field(None, description="Column with the worse answer, or with all of its conversation.")
    answers: NAMES = Field(
        [],
        description="Columns with the answers, or one column with a list of them: `completions[].response`.",
    )
    scores: NAMES = Field([], description="Columns with the answers' scores, or one with a list of them.")
    ranks: NAMES = Field([], description="Columns with the answers' ranks, 1 the best, or one with a list of them.")
    vote: NAMES = Field(
        [],
        description="Column that says which answer is better; several, or a list, are votes of which the majority "
        "counts.",
    )
    first: VALUES = Field(
        [],
        description="Value of the vote that prefers the first answer. Of more than two, the vote is the number of the "
        "best, counted from this value.",
    )
    second: VALUES = Field([], description="Value of the vote that prefers the second answer.")
    tie: VALUES = Field([], description="Value of the vote that prefers neither.")
    answer: str | None = Field(None, description="Column with the answer, where a row has one.")
    label: str | None = Field(None, description="Column that calls the one answer of a row good or bad.")
    good: VALUES = Field([], description="Value of the label for a good answer.")
    bad: VALUES = Field([], description="Value of the label for a bad answer.")
    margin: str | None = Field(None, description="Column with how much better the better answer is.")
    role_key: Annotated[str | None, Cli(metavar="KEY")] = Field(
        None, description="Key of a message that names its speaker, if not `role` or `from`."
    )
    content_key: Annotated[str | None, Cli(metavar="KEY")] = Field(
        None, description="Key of a message with what it says, if not `content`, `value` or `text`."
    )
    roles: Annotated[str | None, Cli(metavar="NAME=ROLE,...", call_type=str | dict[str, str] | None)] = Field(
        None, description="Speakers that have other names: `customer=user,agent=assistant`."
    )
    rows: str | None = Field(
        None, description="Place of the list of rows inside a JSON file, or inside each row: `data.items`."
    )

    encoding: Annotated[str | None, Cli(metavar="NAME")] = Field(
        None, description="Encoding of text files that are not UTF-8, such as gb18030, big5 or windows-1252."
    )
    max_rows: int | None = Field(None, ge=1, description="Most pairs to keep, chosen by a hash of the prompt.")
    weight: float = Field(
        1.0, gt=0, le=100, description="Times that each pair for training is written: 0.5 is half of the prompts."
    )

    @field_validator(*MEANINGS, mode="before")
    @classmethod
    def _values(cls, value: object, info: ValidationInfo) -> object:
        """Take numbers and booleans for the text that prepare compares."""
        items = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, dict)) else [value]
        for item in items:
            if item is None or isinstance(item, (dict, list)) or not str(item).strip():
                raise Unfit(f"{item!r} cannot be a value", hint="give a text or a number, or a list of them")
        return [str(item) for item in items]

    @field_validator(
        *PLACES, "role_key", "content_key", "rows", "path", "converter", "split", "name", check_fields=False
    )
    @classmethod
    def _filled(cls, value: list[str] | str | float | None, info: ValidationInfo) -> list[str] | str | float | None:
        for item in value if isinstance(value, list) else [value] if isinstance(value, str) else ():
            if not item.strip():
                is_place = info.field_name in PLACES
                raise Unfit("it is empty", hint=f"{'name a column, or ' * is_place}leave `{info.field_name}` out")
            if item.strip() == OPEN:
                raise Unfit("it is not filled in", hint="name a column of the rows")
        return value

    @field_validator("roles", mode="before")
    @classmethod
    def _roles(cls, value: object) -> object:
        pairs = value.items() if isinstance(value, dict) else read_pairs(value) if isinstance(value, str) else ()
        for name, role in pairs:
            if role not in ROLES:
                hint = f"a role is one of: {', '.join(ROLES)}"
                raise Unfit(f"`{name}` has no known role: {role!r}", hint=hint)
        return write_pairs(pairs) if isinstance(value, dict) else value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            "".encode(value)
        except (LookupError, ValueError):  # ValueError for a name with a zero byte
            near = difflib.get_close_matches(value.lower(), ENCODINGS, n=1)
            hint = f"did you mean `--encoding {near[0]}`?" if near else "such as gb18030, big5 or windows-1252"
            raise Unfit("it is no encoding of text", hint=hint) from None
        return value

    @model_validator(mode="after")
    def _consistent_columns(self) -> Self:
        """Check that the places name one way to tell the better answer."""
        if OPEN in {value for name in MEANINGS for value in getattr(self, name)}:
            raise Unfit("a value of the vote or label is not filled in: `...`", hint="look it up, and write it instead")
        if bool(self.chosen) != bool(self.rejected):
            given, lacking = ("chosen", "rejected") if self.chosen else ("rejected", "chosen")
            raise Unfit(f"`{given}` is given without `{lacking}`", hint=f"--{lacking} {COLUMN}")
        self._check_meanings()
        self._check_places()
        ways = [name for name in ("chosen", "answers", "answer") if getattr(self, name)]
        if len(ways) > 1:
            raise Unfit(f"the answers are named twice: `{ways[0]}` and `{ways[1]}`", hint=f"leave `{ways[1]}` out")
        if not ways:
            named = [name for name in (*PLACES, "role_key", "content_key", "roles") if getattr(self, name)]
            if named:
                hint = "name `chosen` and `rejected`, or `answers` with `scores`, `ranks` or `vote`"
                raise Unfit(f"`{named[0]}` is named without the answers", hint=hint)
            return self
        told = [name for name in ("scores", "ranks", "vote", "label", "margin") if getattr(self, name)]
        self._check_preference(ways[0], told)
        if (self.scores or self.ranks) and self.answers and not (self.prompt or self.history):
            raise Unfit("`answers` is named without the prompt", hint="name the column of the prompt")
        return self

    @property
    def counts_answers(self) -> bool:
        """Whether a vote is the number of the best answer, counted from the one value of `first`."""
        return bool(self.vote and self.first and not self.second)

    def _check_places(self) -> None:
        found: dict[str, str] = {}
        for name in ("prompt", "chosen", "rejected", "answers", "answer"):
            value = getattr(self, name)
            for place in value if isinstance(value, list) else [value] if value else ():
                if place in found:
                    names = " and ".join(f"`{one}`" for one in dict.fromkeys((found[place], name)))
                    others = [*value] if isinstance(value, list) else [place]
                    others[len(others) - 1 - others[::-1].index(place)] = COLUMN
                    hint = " ".join(f"--{name} {shlex.quote(other)}" for other in others)
                    raise Unfit(f"`{place}` is named twice, in {names}", hint=hint)
                found[place] = name

    def _check_meanings(self) -> None:
        needed = {"first": "second", "second": "first", "tie": "first", "good": "bad", "bad": "good"}
        for name in MEANINGS:
            if getattr(self, name) and not getattr(self, needed[name]) and not self.counts_answers:
                raise Unfit(
                    f"`{name}` is given without `{needed[name]}`", hint=f"give the values of `{needed[name]}` as well"
                )

    def _check_preference(self, way: str, told: list[str]) -> None:
        """Check what tells the better answer, for answers that are named as `way`."""
        fitting = {
            "chosen": ("scores", "ranks", "margin"), "answers": ("scores", "ranks", "vote"),
            "answer": ("scores", "ranks", "label"),
        }[way]  # fmt: skip
        for name in told:
            if name not in fitting:
                raise Unfit(f"`{name}` does not go with `{way}`", hint=f"leave `{name}` out")
        if len(told) > 1 or (not told and way != "chosen"):
            state = f"both `{told[0]}` and `{told[1]}` say" if told else "nothing says"
            hint = f"name one of: {', '.join(fitting)}"
            raise Unfit(f"{state} which answer is better", hint=hint)
        count = {"chosen": 2, "answers": len(self.answers), "answer": 1}[way]
        for name in {*told} & {"scores", "ranks"}:
            if len(getattr(self, name)) != count:
                wanted = "one for each answer" if count > 1 else "one column with a list, as of the answers"
                raise Unfit(f"`{name}` names {len(getattr(self, name))} columns for {count}", hint=f"name {wanted}")
        if self.counts_answers and (len(self.first) > 1 or not self.first[0].isdigit()):
            raise Unfit(
                f"`first` without `second` is the number of the first answer: {self.first[0]}",
                hint="give `second`, or the number from which the answers are counted: 0 or 1",
            )
        for some, other in ((("first", "second", "tie"), "vote"), (("good", "bad"), "label")):
            given = [name for name in some if getattr(self, name)]
            if given and other not in told:
                raise Unfit(f"`{given[0]}` is a value of `{other}`, which is not named", hint=f"name `{other}`")

    @property
    def names_columns(self) -> bool:
        """Whether the columns are described, so that no converter is needed."""
        return bool(self.chosen or self.answers or self.answer)

    def meanings(self, normalize: Callable[[str], str]) -> dict[str, str] | None:
        """Return the meaning of each value of the vote or label, normalized; None if it has its own.

        Raise ConfigError for a value with two meanings.
        """
        if self.counts_answers:
            return None
        found: dict[str, str] = {}
        for name in MEANINGS:
            for value in map(normalize, getattr(self, name)):
                if found.setdefault(value, name) != name:
                    message = f"`{value}` means both `{found[value]}` and `{name}`"
                    raise ConfigError(message, hint="give each value one meaning")
        return found or None


class SourceConfig(Description):
    """An item of `sources`: paths or addresses that are read alike, with their description."""

    in_yaml = True

    path: list[str] = Field(min_length=1, description="Files, folders, globs or addresses, as SOURCE.")
    converter: str | None = Field(None, description="Converter to use instead of columns.")
    split: str | float | None = Field(
        None,
        description="`train` or `test` for all rows, the share of prompts to hold out, or as `--split`: `published`, "
        "`none`, or a column with the names of splits.",
    )
    name: str | None = Field(None, description="Name that the column `source` gives the pairs.")

    @classmethod
    def item(cls, value: object, place: str) -> Self:
        """Validate an item of the list `sources`. Raise ConfigError, which names the `place` and the key."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            hint = "sources: [{path: a.jsonl, prompt: question, chosen: good, rejected: bad}]"
            raise ConfigError(f"{place} is not a description: {value!r}", hint=hint)
        try:
            return cls.build(value)
        except ConfigError as problem:
            raise ConfigError(f"{place}: {problem.message}", hint=problem.hint) from None

    @field_validator("split", mode="before")
    @classmethod
    def _share(cls, value: object) -> object:
        share = as_share(value)
        return value if share is None else share

    @model_validator(mode="after")
    def _consistent_source(self) -> Self:
        if self.converter is not None and self.names_columns:
            raise Unfit(
                f"both `converter` and columns are given: {self.converter}",
                hint="leave `converter` out, or the columns",
            )
        if isinstance(self.split, float) and not 0 <= self.split < 1:
            raise Unfit(f"`split` is no share: {self.split:g}", hint="a share to hold out, such as 0.05 or 5%")
        return self

    @classmethod
    def _where_listed(cls) -> str:
        return f"the keys are: {', '.join(('path', *(name for name in cls.model_fields if name != 'path')))}"

    @classmethod
    def _command(cls) -> str:
        return "prepare"


def as_share(value: object) -> float | None:
    """Return the share that a number or a text such as `5%` or `0.05` means, None for anything else."""
    try:
        return None if isinstance(value, bool) else float(percent(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def percent(value: object) -> object:
    """Return the share that a text such as `5%` means; any other value is left to pydantic."""
    return float(value.strip()[:-1]) / 100 if isinstance(value, str) and value.strip().endswith("%") else value
