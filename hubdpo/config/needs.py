"""What options of `train` need that a machine may lack: a CUDA device, or a package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

from hubdpo.config.train import TrainConfig
from hubdpo.errors import ConfigError

LIGER = ("liger-kernel", "liger_kernel")


class Need(NamedTuple):
    """What one option needs."""

    option: str
    package: tuple[str, str] | None
    """Package, as pip and as Python name it."""
    on_gpu: bool
    otherwise: str
    """What to give where there is no CUDA device."""


def needs(config: TrainConfig) -> Iterator[Need]:
    optimiser = config.optimiser
    yield Need(f"--optim {config.optim}", optimiser.package, optimiser.on_gpu, "--optim adamw_torch_fused")
    if config.use_liger_kernel:
        yield Need("--use-liger-kernel", LIGER, True, "--no-use-liger-kernel")


def check_needs(config: TrainConfig, *, cuda: bool) -> None:
    """Raise ConfigError for an option that needs a CUDA device where there is none, or a package that is not there."""
    for option, package, on_gpu, otherwise in needs(config):
        if on_gpu and not cuda:
            raise ConfigError(f"`{option}` needs a CUDA device", hint=otherwise)
        if package and not importlib.util.find_spec(package[1]):
            raise ConfigError(f"`{option}` needs its package", hint=f"pip install {package[0]}")
