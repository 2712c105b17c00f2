"""Options of `hubdpo merge`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hubdpo.config.base import Cli, Config
from hubdpo.config.torch_names import Device, Dtype

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


class MergeConfig(Config):
    adapter: Annotated[str, Cli(argument=True, metavar="RUN|USER/NAME@vX.Y.Z", call_type=str | Path)] = Field(
        description="A finished run folder, or a release of an adapter."
    )
    output_dir: Annotated[Path, Cli(short="-o", metavar="DIR")] = Field(description="Folder for the merged model.")
    dtype: Dtype = Field("bfloat16", description="Data type of the weights.")
    base_weights: Literal["as-trained", "original"] = Field(
        "as-trained",
        description="Merge into the weights that training used (NF4 is de-quantised), or into the original weights.",
    )
    max_shard_size: str = Field("5GB", description="Maximum size of a weights file, such as 500MB or 5GB.")
    tolerance: float | None = Field(
        None,
        gt=0,
        description="Maximum difference of a token's log-probability between adapter and merged model, in nats. By "
        "default twice the rounding noise of 16-bit arithmetic, or 0.001 if everything is float32.",
    )
    device: Device = Field("auto", description="Device to load the models on.")

    @field_validator("dtype", mode="before")
    @classmethod
    def _full_precision(cls, value: object) -> object:
        if re.search(r"4bit|8bit|nf4|fp4|int[48]", re.sub("[-_]", "", str(value).lower())):
            raise ValueError(
                "rounding to so few bits would lose most of the adapter; merge first, then quantise the result"
            )
        return value

    @field_validator("max_shard_size")
    @classmethod
    def _file_size(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", value):
            raise ValueError("write a number followed by KB, MB or GB")
        return value

    @property
    def shard_bytes(self) -> int:
        return int(self.max_shard_size[:-2]) * UNITS[self.max_shard_size[-2:]]
