"""Options that name a device or a data type: as text, or as torch's own object."""

from __future__ import annotations

from typing import Annotated, ForwardRef, Literal

from pydantic import BeforeValidator

from hubdpo.config.base import Cli, Unfit


def _name(value: object) -> object:
    """Return the name of a torch object, as in `float32` for `torch.float32`, without importing torch."""
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" or isinstance(value, str) else value


def _trainable(value: object) -> object:
    name = _name(value)
    if name in ("float16", "fp16", "half"):
        raise Unfit("float16 gave losses that are not finite in DPO", hint="--dtype bfloat16, or --dtype float32")
    return name


def _device(value: object) -> object:
    """Take the first GPU for `cuda`, which it is. Raise Unfit for another GPU."""
    name = _name(value)
    kind, _, index = str(name).partition(":")
    if kind != "cuda" or not index.isdecimal():
        return name
    if int(index):
        raise Unfit(
            "a process takes the first GPU that it sees",
            hint=f"--device cuda, with CUDA_VISIBLE_DEVICES={index} in the environment from the start",
        )
    return kind


Dtype = Annotated[
    Literal["bfloat16", "float32"],
    Cli(call_type=Literal["bfloat16", "float32"] | ForwardRef("torch.dtype")),
    BeforeValidator(_name),
]
ComputeDtype = Annotated[
    Literal["auto", "bfloat16", "float32"],
    Cli(call_type=Literal["auto", "bfloat16", "float32"] | ForwardRef("torch.dtype")),
    BeforeValidator(_trainable),
]
Device = Annotated[
    Literal["auto", "cuda", "cpu"],
    Cli(call_type=Literal["auto", "cuda", "cuda:0", "cpu"] | ForwardRef("torch.device")),
    BeforeValidator(_device),
]
