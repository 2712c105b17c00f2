"""Options of `hubdpo export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hubdpo.config.base import MODELS, Cli, Config, Unfit

Outtype = Literal["auto", "f32", "f16", "bf16", "q8_0"]


class ExportConfig(Config):
    model: Annotated[
        str,
        Cli(
            argument=True, metavar="RUN|MERGED|USER/NAME@vX.Y.Z", names=MODELS,
            call_type=str | Path,
        ),
    ] = Field(description="A folder with an adapter or a merged model, or a release of one.")  # fmt: skip
    output: Annotated[Path, Cli(short="-o", metavar="FILE")] = Field(description="The file to write.")
    gguf: bool = Field(False, description="Write GGUF, the format of llama.cpp and Ollama.")
    outtype: Outtype = Field(
        "auto",
        description="Type of the weights; `auto` is f16 for an adapter, and for a model the nearest type of 16 bits.",
    )
    llama_cpp: Annotated[Path | None, Cli(metavar="DIR")] = Field(
        None,
        description="Folder of llama.cpp's sources, with its converters; by default HUBDPO_LLAMA_CPP, or PATH.",
    )

    @model_validator(mode="after")
    def _names_a_format(self) -> ExportConfig:
        if not self.gguf:
            raise Unfit("no format is given for the file", hint="--gguf")
        return self
