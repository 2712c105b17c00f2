"""Pick the device and the type that a model computes in. Importing this module does not import torch."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.errors import ConfigError

if TYPE_CHECKING:
    import torch

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential", "disk")
"""Words of accelerate that a `device_map` may have in place of a device."""


def pick_device(wanted: str) -> str:
    """Return `cuda` or `cpu` for `auto`, `cuda` or `cpu`. Raise ConfigError for `cuda` without a CUDA device."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise _no_cuda()
    return wanted


def check_device(wanted: str) -> None:
    """Raise ConfigError for `cuda` on a machine that cannot have a CUDA device, without importing torch."""
    if wanted == "cuda" and not cuda_is_possible():
        raise _no_cuda()


def check_device_map(device_map: object) -> None:
    """Raise ConfigError for a `device_map` that names no device, or a CUDA device that is not there."""
    import torch

    for place in device_map.values() if isinstance(device_map, Mapping) else [device_map]:
        if place in (None, *STRATEGIES):
            continue
        try:
            device = torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
        except (RuntimeError, TypeError):
            hint = ", ".join(f'"{word}"' for word in ("cpu", "cuda", *STRATEGIES))
            raise ConfigError(f"`device_map` names no device: {place!r}", hint=hint) from None
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise _no_cuda('device_map="cpu"')


def _no_cuda(instead: str = "--device cpu") -> ConfigError:
    return ConfigError("no CUDA device is found; `hubdpo doctor` shows what is", hint=instead)


def compute_dtype(device: str, wanted: str = "auto") -> torch.dtype:
    """Return the wanted type; for `auto` bfloat16 on a GPU that computes in it, else float32.

    Raise ConfigError for bfloat16 on a GPU that only emulates it, which is slow: those before Ampere.
    """
    import torch

    has_bfloat16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bfloat16" and device == "cuda" and not has_bfloat16:
        raise ConfigError("this GPU does not compute in bfloat16", hint="--dtype float32")
    if wanted == "auto":
        wanted = "bfloat16" if has_bfloat16 else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def hardware_name(device: str) -> str:
    """Return the name of the GPU, or of the processor with the number of threads that compute."""
    import torch

    if device == "cuda":
        return str(torch.cuda.get_device_name())
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def processor_name() -> str:
    """Return the processor's name, by which libraries choose their kernels."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine()


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Let PyTorch use only kernels that give the same bits for the same input, within the body.

    Sums with atomics, such as those of flash attention's backward, have a random order by default. Not transformers'
    `full_determinism`: it also makes the CPU wait for every kernel (CUDA_LAUNCH_BLOCKING), and restores nothing.

    Raise RuntimeError, in the body, for an operation that has no such kernel.
    """
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    workspace = os.environ.get(CUBLAS_WORKSPACE)
    os.environ[CUBLAS_WORKSPACE] = workspace or ":4096:8"  # cuBLAS: 8 buffers of 4 MiB for each stream
    torch.use_deterministic_algorithms(True)  # not `warn_only`, which leaves attention as it is
    # a step reads no memory that it has not written, and filling every de-quantised weight first takes time
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled
        if workspace is None:
            del os.environ[CUBLAS_WORKSPACE]
        else:
            os.environ[CUBLAS_WORKSPACE] = workspace


def cuda_is_possible() -> bool:
    """Tell whether torch was built for a GPU and the driver's library is there, without importing torch."""
    torch_spec = importlib.util.find_spec("torch")
    version_file = Path(str(torch_spec.origin)).with_name("version.py") if torch_spec else Path()
    text = version_file.read_text(encoding="utf-8") if version_file.is_file() else ""
    built_for = {kind: not re.search(rf"^{kind}\b.*= None$", text, re.MULTILINE) for kind in ("cuda", "hip")}
    if not any(built_for.values()):
        return False
    if not built_for["cuda"] or built_for["hip"] or not sys.platform.startswith("linux"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
