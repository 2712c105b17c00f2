"""Compare the shapes of an adapter's weights with those of a base, by the headers of their files. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from hubdpo.errors import ConfigError
from hubdpo.hub.snapshot import Shapes


def check_shapes(name: str, shapes: Mapping[str, tuple[int, ...]], base: str, stored: Shapes, *, hint: str) -> None:
    """Raise ConfigError, with `hint`, unless the weights of the adapter `name` fit the `stored` ones of a base."""
    absent = []
    for tensor, shape in shapes.items():
        module, is_lora, part = tensor.removeprefix("base_model.model.").partition(".lora_")
        if not is_lora:
            _check_whole(name, module, shape, base, stored, hint=hint)
            continue
        weight = stored.get(f"{module}.weight")
        if weight is None:
            absent.append(module)
        # an NF4 weight is stored as one packed column
        elif len(weight) == 2 and weight[1] > 1 and len(shape) == 2 and part in ("A.weight", "B.weight"):
            found, expected = (shape[1], weight[1]) if part == "A.weight" else (shape[0], weight[0])
            if found != expected:
                side = "inputs" if part == "A.weight" else "outputs"
                raise ConfigError(
                    f"the adapter `{name}` does not fit `{base}`: `{module}` has {expected:,} {side}, and the adapter "
                    f"{found:,}",
                    hint=hint,
                )
    leaves = {tensor.removesuffix(".weight").rpartition(".")[2] for tensor in stored}
    # where none is found, the files of the base may name their layers in another way than the model does
    if absent and (len(absent) < len(shapes) or absent[0].rpartition(".")[2] not in leaves):
        raise ConfigError(f"the adapter `{name}` does not fit `{base}`, which has no `{absent[0]}`", hint=hint)


def modules_in(stored: Shapes) -> list[str]:
    """Return the names of a base's modules, as far as its weights tell; of a head that is tied they do not."""
    parts = [tensor.split(".") for tensor in stored]
    paths = {".".join(names[:length]) for names in parts for length in range(1, len(names))}
    return sorted({*paths, "lm_head"})


def _check_whole(name: str, weight: str, shape: tuple[int, ...], base: str, stored: Shapes, *, hint: str) -> None:
    has = stored.get(weight, shape)
    if has != shape and has[1:] == shape[1:]:
        raise ConfigError(
            f"the adapter `{name}` does not fit `{base}`: `{weight}` has {has[0]:,} rows, and the adapter "
            f"{shape[0]:,}; its vocabulary was resized",
            hint=hint,
        )
