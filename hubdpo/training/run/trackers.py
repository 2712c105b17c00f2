"""Trackers that the metrics go to as well; they get what metrics.jsonl gets, through transformers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from hubdpo.errors import ConfigError

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""The packages that each can be served by, the one to install first."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError when the package of a tracker is not installed."""
    for name in names:
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            raise ConfigError(f"`--report-to {name}` needs its package", hint=f"pip install {PACKAGES[name][0]}")
