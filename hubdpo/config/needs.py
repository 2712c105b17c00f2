"""What options of `train` need that a machine may lack: a CUDA device, or a package."""

from __future__ import annotations

import importlib.util

from hubdpo.config.train import TrainConfig
from hubdpo.errors import ConfigError

LIGER = ("liger-kernel", "liger_kernel")
"""Package, as pip and as Python name it."""


def check_needs(config: TrainConfig, *, cuda: bool) -> None:
    """Raise ConfigError for an option that needs a CUDA device where there is none, or a package that is not there."""
    optimiser = config.optimiser
    needs = [(f"--optim {config.optim}", optimiser.package, optimiser.on_gpu, "--optim adamw_torch_fused")]
    if config.use_liger_kernel:
        needs.append(("--use-liger-kernel", LIGER, True, "--no-use-liger-kernel"))
    for option, package, on_gpu, without_gpu in needs:
        if on_gpu and not cuda:
            raise ConfigError(f"`{option}` needs a CUDA device", hint=without_gpu)
        if package and not importlib.util.find_spec(package[1]):
            raise ConfigError(f"`{option}` needs its package", hint=f"pip install {package[0]}")
