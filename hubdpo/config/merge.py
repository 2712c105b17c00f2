"""Options of `hubdpo merge`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hubdpo.config.base import Cli, Config

DTYPES = ("bfloat16", "float32")
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


class MergeConfig(Config):
    adapter: Annotated[str, Cli(argument=True, metavar="RUN|USER/NAME@vX.Y.Z")] = Field(
        description="A finished run folder, or a release of an adapter."
    )
    output_dir: Annotated[Path, Cli(short="-o")] = Field(description="The folder to write: a whole model.")
    dtype: Annotated[str, Cli(metavar="bfloat16|float32")] = Field("bfloat16", description="Type of the weights.")
    base_weights: Literal["as-trained", "original"] = Field(
        "as-trained",
        description="Merge into the base as training saw it, de-quantised where it was NF4, or into the original.",
    )
    max_shard_size: str = Field("5GB", description="Most bytes of one weights file: 500MB, 5GB.")
    tolerance: float | None = Field(
        None,
        gt=0,
        description="Largest difference of a token's log-probability between adapter and merged model, in nats; by "
        "default twice what 16-bit arithmetic alone makes on the merged model, 0.001 where all is float32.",
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="Where to load the models.")

    @field_validator("dtype")
    @classmethod
    def _whole(cls, value: str) -> str:
        if re.search(r"4bit|8bit|nf4|fp4|int[48]", value.lower().replace("-", "").replace("_", "")):
            raise ValueError("a merge into so few bits rounds most of the adapter away; merge, and quantise the result")
        if value not in DTYPES:
            raise ValueError(f"it is one of {', '.join(DTYPES)}")
        return value

    @field_validator("max_shard_size")
    @classmethod
    def _size(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", value):
            raise ValueError("a size is a number and KB, MB or GB")
        return value

    @property
    def shard_bytes(self) -> int:
        return int(self.max_shard_size[:-2]) * UNITS[self.max_shard_size[-2:]]
