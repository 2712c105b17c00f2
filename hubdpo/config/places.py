"""Options that name a folder of a kind, or a repo on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hubdpo.config.base import Cli

ADAPTERS = ("run", "adapter")
"""The kinds of folders that hold an adapter."""
MODELS = (*ADAPTERS, "merged model", "model")
"""The kinds of folders that hold an adapter or a whole model."""
DatasetPlace = Annotated[str, Field(min_length=1), Cli(metavar="DATASET", names=("dataset",), call_type=str | Path)]
