"""TODO."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import torch

from hubdpo.errors import ConfigError


def compute_dtype(device: str) -> Any:
    """Return bfloat16 for a GPU that computes in it, else float32."""
    import torch

    return torch.bfloat16 if device == "cuda" and has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Tell whether the GPU computes in bfloat16. Those before Ampere emulate it, which PyTorch counts by default."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def pick_device(wanted: str) -> str:
    """Return `cuda` or `cpu`. Raise ConfigError when CUDA was asked for and there is none."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is found", hint="hubdpo doctor, or use `--device cpu`")
    return wanted


def cuda_is_possible() -> bool:
    """Tell, without importing torch, whether its build and the driver's library leave any hope of a GPU."""
    torch = importlib.util.find_spec("torch")
    version = Path(str(torch.origin)).with_name("version.py") if torch else Path()
    text = version.read_text(encoding="utf-8") if version.is_file() else ""
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
