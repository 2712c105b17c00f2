"""Check, before a layer is built, that a model's config asks for no more than its weights hold.

transformers builds as many layers as config.json says. Tensors that the weights lack, or have in another shape, it
fills with random numbers in full size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from hubdpo.artefacts.folders.model_files import CONFIG, INDEX, WEIGHTS, weight_map
from hubdpo.artefacts.formats.bounded import parse_file, read_bytes
from hubdpo.artefacts.formats.safetensors_header import read_header
from hubdpo.model.untrusted import MOST_COUNTS

MOST_TIMES, MOST_TIMES_PACKED, SPARE = 3, 10, 50_000_000
"""Most values that a model may ask for: so many times those stored, more where they are packed into few bits, plus a
fixed number."""

Shapes = Mapping[str, tuple[int, ...]]


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes, by name, of all tensors that transformers would load.

    Raise ValueError for a file that is no index or no safetensors file, OSError for a missing one.
    """
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        names = sorted(set(weight_map(parse_file(read_bytes(folder / INDEX), INDEX)).values()))
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        try:
            shapes |= read_header(folder / name)
        except ValueError as problem:
            raise ValueError(f"`{name}` is no safetensors file: {problem}") from None
    return shapes


def check_layers(config: Mapping[str, object], shapes: Shapes) -> None:
    """Raise ValueError when the config has more text layers than the weights have numbers for.

    Fields nested elsewhere may describe parts that are not built, such as the image tower that a text model was cut
    from.
    """
    layers = 1 + max((int(part) for name in shapes for part in name.split(".") if part.isdecimal()), default=-1)
    text = config.get("text_config")
    for name, value in (*config.items(), *(text.items() if isinstance(text, dict) else ())):
        if name in MOST_COUNTS and "layer" in name and isinstance(value, int) and value > layers:
            raise ValueError(f"`{name}` of {CONFIG} is {value:,}, and its weights hold {layers:,}")


def check_shapes(wanted: Shapes, stored: Shapes, *, packed: bool) -> None:
    """Raise ValueError when a model as it would be built has other shapes than its weights, or far more values.

    Weights that are `packed` into few bits have other shapes than the layers that they become.
    """
    for name, shape in wanted.items():
        if not packed and stored.get(name, shape) != shape:
            raise ValueError(f"{CONFIG} asks for `{name}` of {_by(shape)}, and its weights hold {_by(stored[name])}")
    values, held = (sum(map(math.prod, shapes.values())) for shapes in (wanted, stored))
    if values > held * (MOST_TIMES_PACKED if packed else MOST_TIMES) + SPARE:
        raise ValueError(f"{CONFIG} asks for {values:,} values, and its weights hold {held:,}")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
