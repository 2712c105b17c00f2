"""Experiment trackers, by transformers' names."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator

from hubdpo.errors import ConfigError

# transformers.integrations.INTEGRATION_TO_CALLBACK (5.23), without those that report only on the platform that runs
# them (azure_ml, flyte, kubeflow), need another tracker's server (dagshub), or are being removed (neptune).
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",), "mlflow": ("mlflow",),
    "swanlab": ("swanlab",), "comet_ml": ("comet_ml",), "clearml": ("clearml",), "dvclive": ("dvclive",),
    "codecarbon": ("codecarbon",),
}  # fmt: skip
"""Packages that can serve each tracker, the one to install first."""


PROJECT_VARIABLES = (
    "WANDB_PROJECT",
    "MLFLOW_EXPERIMENT_NAME",
    "CLEARML_PROJECT",
    "SWANLAB_PROJECT",
    "COMET_PROJECT_NAME",
)
"""Where trackers look for the project; Trackio is told."""


@contextlib.contextmanager
def in_project(name: str | None) -> Iterator[None]:
    """Name the project to the trackers, and the processes that are launched, in the body."""
    before = {variable: os.environ[variable] for variable in PROJECT_VARIABLES if variable in os.environ}
    if name is not None:
        os.environ.update(dict.fromkeys(PROJECT_VARIABLES, name))
    try:
        yield
    finally:
        for variable in PROJECT_VARIABLES:
            os.environ.pop(variable, None)
        os.environ.update(before)


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
