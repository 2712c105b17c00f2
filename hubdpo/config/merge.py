"""Options of `hubdpo merge`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hubdpo.config.base import ADAPTERS, Cli, Config, Unfit, flag_of
from hubdpo.config.torch_names import Device, Dtype
from hubdpo.console import counted

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


Combination = Literal[
    "cat", "linear", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
]  # fmt: skip
"""Ways of PEFT's add_weighted_adapter (peft 0.21)."""
SAME_RANK = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Those that combine the factors of adapters, and not their products."""
SEVERAL = ("weights", "combination_type", "density", "majority_sign_method", "seed")
MOST_WEIGHT = 100.0
"""Largest weight of an adapter: far beyond what any combination has, and within what 16 bits hold."""


class MergeConfig(Config):
    adapter: Annotated[
        list[str],
        Cli(
            argument=True,
            metavar="RUN|USER/NAME@vX.Y.Z...",
            names=ADAPTERS,
            call_type=str | Path | Sequence[str | Path],
        ),  # fmt: skip
    ] = Field(min_length=1, description="Finished run folders, or releases of adapters; several need --weights.")
    output_dir: Annotated[Path, Cli(short="-o", metavar="DIR")] = Field(description="Folder for the merged model.")
    dtype: Dtype = Field("bfloat16", description="Data type of the weights.")
    base_weights: Literal["as-trained", "original"] = Field(
        "as-trained",
        description="Merge into the weights that training used (NF4 is de-quantised), or into the original weights.",
    )
    weights: list[float] | None = Field(None, description="Weight of each adapter, in order, where there are several.")
    combination_type: Combination = Field(
        "cat",
        description="How several adapters are combined, as in PEFT: `cat` is the weighted sum of their changes, `svd` "
        "that sum at the largest rank, `linear` sums their factors.",
    )
    density: float | None = Field(
        None, gt=0, le=1, description="Share of values that ties, dare and magnitude_prune keep."
    )
    majority_sign_method: Literal["total", "frequency"] = Field(
        "total", description="How ties chooses the sign of a value: by sum, or by number of adapters."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the values that dare drops.")
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

    @model_validator(mode="after")
    def _combines_several(self) -> MergeConfig:
        several, weights = len(self.adapter), self.weights or []
        if several == 1 and (changed := self.changed(*SEVERAL)):
            flag = f"`{flag_of(changed[0])}`"
            raise Unfit(f"{flag} is for several adapters, and one is given", hint=f"leave {flag} out")
        equal = " ".join([f"--weights {1 / several:.3g}"] * several)
        if several > 1 and len(weights) != several:
            raise Unfit(f"{counted(several, 'adapter')} and {counted(len(weights), 'weight')} are given", hint=equal)
        if (wrong := next((each for each in weights if not abs(each) <= MOST_WEIGHT), None)) is not None:  # also NaN
            raise Unfit(f"{wrong:g} is no weight: {-MOST_WEIGHT:g} to {MOST_WEIGHT:g} are", hint=equal)
        if weights and not any(weights):
            raise Unfit("all weights are 0, which would give the base itself", hint=equal)
        prunes = self.combination_type not in ("cat", "linear", "svd")
        if prunes and self.density is None:
            raise Unfit(f"`{self.combination_type}` needs the share of values that it keeps", hint="--density 0.5")
        if self.density is not None and not prunes:
            raise Unfit(
                f"`{self.combination_type}` keeps all values, so `--density` has no effect",
                hint="leave `--density` out, or --combination-type ties",
            )
        return self

    @property
    def shard_bytes(self) -> int:
        return int(self.max_shard_size[:-2]) * UNITS[self.max_shard_size[-2:]]
