"""Options of `hubdpo evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hubdpo.config.base import Cli, Config


class EvaluateConfig(Config):
    run_dir: Annotated[Path, Cli(argument=True, metavar="RUN")] = Field(description="A complete run folder.")
    dataset: str | None = Field(None, description="Dataset folder or USER/NAME[@REVISION]; the run's own by default.")
    model_name_or_path: str | None = Field(None, description="Where the base is now, when it has moved since the run.")
    max_pairs: int = Field(2000, ge=1, description="Most test pairs to score.")
    per_device_eval_batch_size: int = Field(4, ge=1, description="Pairs in one forward pass.")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="Where to evaluate.")
