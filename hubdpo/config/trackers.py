"""Experiment trackers, by transformers' names."""

from __future__ import annotations

import importlib.util

from hubdpo.errors import ConfigError

# transformers.integrations.INTEGRATION_TO_CALLBACK (5.23), without those that report only on the platform that runs
# them (azure_ml, flyte, kubeflow), need another tracker's server (dagshub), or are being removed (neptune).
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",), "mlflow": ("mlflow",),
    "swanlab": ("swanlab",), "comet_ml": ("comet_ml",), "clearml": ("clearml",), "dvclive": ("dvclive",),
    "codecarbon": ("codecarbon",),
}  # fmt: skip
"""Packages that can serve each tracker, the one to install first."""


def installed(names: list[str]) -> list[str]:
    """Return the trackers to report to: those named, for `all` those whose package is installed.

    Raise ConfigError for a tracker without its package.
    """
    if "all" in names:
        return [name for name in TRACKERS if _is_installed(name)]
    for name in names:
        if not _is_installed(name):
            raise ConfigError(f"`--report-to {name}` needs its package", hint=f"pip install {TRACKERS[name][0]}")
    return names


def _is_installed(name: str) -> bool:
    return any(importlib.util.find_spec(package) for package in TRACKERS[name])
