"""Options of `hubdpo evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hubdpo.config.base import Cli, Config
from hubdpo.config.torch_names import Device


class EvaluateConfig(Config):
    run_dir: Annotated[Path, Cli(argument=True, metavar="RUN")] = Field(description="A complete run folder.")
    dataset: Annotated[str | None, Cli(call_type=str | Path | None)] = Field(
        None, description="Dataset folder or USER/NAME[@REVISION]; by default the dataset of the run."
    )
    model_name_or_path: Annotated[str | None, Cli(call_type=str | Path | None)] = Field(
        None, description="Path or Hub id of the base, if it has moved since training."
    )
    adapter: Annotated[str | None, Cli(call_type=str | Path | None)] = Field(
        None, description="Adapter that the run started from, if it has moved since training."
    )
    max_pairs: int = Field(2000, ge=1, description="Maximum number of test pairs to score.")
    per_device_eval_batch_size: int = Field(4, ge=1, description="Pairs per forward pass.")
    device: Device = Field("auto", description="Device to evaluate on.")
