"""Ask the trackers of a run for the address at which they show it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

from hubdpo import console
from hubdpo.artefacts.manifests.tracked_run import TrackedRun, public_address
from hubdpo.config.trackers import TRACKERS
from hubdpo.hub.failures import first_line
from hubdpo.secrets import find_secrets


def _mlflow(mlflow: Any) -> object:
    run = mlflow.active_run()
    place = run and f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return run and f"{str(mlflow.get_tracking_uri()).rstrip('/')}/{place}"


ADDRESSES: dict[str, Callable[[Any], object]] = {
    "wandb": lambda wandb: wandb.run and wandb.run.url,  # None offline
    "trackio": lambda trackio: (
        (space := trackio.context_vars.current_space_id.get()) and f"https://huggingface.co/spaces/{space}"
    ),
    "mlflow": _mlflow,
    "swanlab": lambda swanlab: (run := swanlab.get_run()) and run.public.cloud.experiment_url,
    "comet_ml": lambda comet_ml: (experiment := comet_ml.get_running_experiment()) and experiment.url,
    "clearml": lambda clearml: (task := clearml.Task.current_task()) and task.get_output_log_web_page(),
}
"""What each tracker says of the running run: its address, or nothing. The others write files alone."""


def tracked_runs(names: Sequence[str]) -> list[TrackedRun]:
    """Return the runs that trackers show at an address that others can open; warn of a tracker that fails."""
    found = []
    for name in names:
        module = next((sys.modules[package] for package in TRACKERS[name] if package in sys.modules), None)
        if module is None or name not in ADDRESSES:
            continue
        try:
            address = ADDRESSES[name](module)
        except Exception as problem:  # a tracker's own code, which must not end a training
            console.warn(f"{name} does not tell the address of the run: {first_line(problem)}")
            continue
        url = public_address(address) if isinstance(address, str) else None
        if url is not None and not find_secrets(url):
            found.append(TrackedRun(tracker=name, url=url))
    return found


class TrackedRuns(TrainerCallback):
    """Asks once training has begun, when the trackers, whose callbacks come first, have opened the run."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.runs: list[TrackedRun] = []

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.runs = tracked_runs(self._names)
