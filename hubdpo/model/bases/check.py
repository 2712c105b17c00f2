"""Does config.json of a model ask for more than its weights hold? Told before a layer is built.

transformers builds as many layers as the config says, and makes up, at random and in full size, whatever the weights
lack or have in another shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import parse_file, read_bytes
from hubdpo.artefacts.formats.safetensors_header import read_header

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
COUNTS = {
    "num_hidden_layers": 2_000, "num_layers": 2_000, "n_layer": 2_000, "n_layers": 2_000, "num_decoder_layers": 2_000,
    "num_experts": 10_000, "num_local_experts": 10_000, "n_routed_experts": 10_000, "num_labels": 100_000,
}  # fmt: skip
"""Most of what a model is built of, one by one, whatever its weights are. The largest in use has 162 layers."""
MOST_TIMES, OF_PACKED, SPARE = 3, 10, 50_000_000
"""How many values a model may ask for beside one that is stored, or stored in few bits; and in any case."""

Shapes = Mapping[str, tuple[int, ...]]


def check_counts(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder, empty when there is none. Raise ValueError for counts that nothing has."""
    if not (folder / CONFIG).is_file():
        return {}
    config = parse_file(read_bytes(folder / CONFIG), CONFIG)
    for name, value in _fields(config):
        if name in COUNTS and isinstance(value, (int, float)) and value > COUNTS[name]:
            raise ValueError(f"`{name}` of {CONFIG} is {value:,}, and at most {COUNTS[name]:,} are built")
    return config if isinstance(config, dict) else {}


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors that transformers would load. Raise ValueError for files that are none, OSError
    for one that is missing.
    """
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        index = parse_file(read_bytes(folder / INDEX), INDEX)
        listed = index.get("weight_map") if isinstance(index, dict) else None
        names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
        if odd := [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]:
            raise ValueError(f"{INDEX} names {odd[0][:80]!r}, which is no safetensors file beside it")
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        try:
            shapes |= read_header(folder / name)
        except ValueError as problem:
            raise ValueError(f"`{name}` is no safetensors file: {problem}") from None
    return shapes


def check_layers(config: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise ValueError for more layers of text than the weights have numbers for.

    Other fields within fields may tell of what is not built: of images that a text model was cut from, of tasks.
    """
    held = 1 + max((int(part) for name in shapes for part in name.split(".") if part.isdecimal()), default=-1)
    text = config.get("text_config")
    for name, value in (*config.items(), *(text.items() if isinstance(text, dict) else ())):
        if name in COUNTS and "layer" in name and isinstance(value, int) and value > held:
            raise ValueError(f"`{name}` of {CONFIG} is {value:,}, and its weights hold {held:,}")


def check_shapes(asked: Shapes, stored: Shapes, *, packed: bool) -> None:
    """Raise ValueError when a model as it would be built, `asked`, is another or far larger than what is `stored`.

    Weights that are `packed` into few bits have other shapes than the layers that they become.
    """
    for name, shape in asked.items():
        if not packed and stored.get(name, shape) != shape:
            raise ValueError(f"{CONFIG} asks for `{name}` of {_by(shape)}, and its weights hold {_by(stored[name])}")
    values, held = (sum(map(math.prod, shapes.values())) for shapes in (asked, stored))
    most = held * (OF_PACKED if packed else MOST_TIMES) + SPARE
    if values > most:
        raise ValueError(f"{CONFIG} asks for {values:,} values, and its weights hold {held:,}")


def _fields(config: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(config, dict):
        for name, value in config.items():
            yield name, value
            yield from _fields(value)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
