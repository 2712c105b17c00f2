"""Options of `hubdpo prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hubdpo.config.base import Cli, Config


class PrepareConfig(Config):
    source: Annotated[list[str], Cli(argument=True, metavar="SOURCE...")] = Field(
        min_length=1,
        description="Raw files, folders, globs, `-` for stdin, or hf://datasets/USER/NAME[@REVISION][/PATH].",
    )
    output_dir: Annotated[Path, Cli(short="-o")] = Field(description="The dataset folder to write.")
    format: str | None = Field(None, description="Converter to use; detected from the rows when not given.")
    map: str | None = Field(None, description="Columns to use: prompt=question,chosen=good,rejected=bad.")
    test_size: float = Field(0.05, ge=0, lt=1, description="Share of the prompts held out in the test split.")
    seed: int = Field(0, ge=0, description="Changes which prompts are held out.")
    dedupe: Literal["exact", "none"] = Field("exact", description="Drop repeated pairs.")
    keep: list[str] = Field(default_factory=list, description="Extra column to keep; may be given more than once.")
    card: Path | None = Field(None, description="Your own card: Markdown with a YAML front matter.")
    name: str | None = Field(None, description="Title of the dataset card.")
    license: str | None = Field(None, description="Licence of the data, a Hub id such as cc-by-sa-4.0.")
    language: list[str] = Field(
        default_factory=list, description="Language code of the data; may be given more than once."
    )
    max_reject: float = Field(
        1.0, ge=0, le=1, description="Fail, writing nothing, when a larger share of the rows is dropped."
    )
    max_line_bytes: int = Field(
        64 * 2**20, ge=1024, description="Longest row to parse, in bytes; longer ones are dropped."
    )
    overwrite: bool = Field(False, description="Replace the folder even when it was edited by hand.")
