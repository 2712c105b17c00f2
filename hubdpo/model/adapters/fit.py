"""Compare the shapes of an adapter's weights with those of a base, by the headers of their files. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from hubdpo.errors import ConfigError
from hubdpo.hub.snapshot import Shapes


def check_shapes(name: str, shapes: Mapping[str, tuple[int, ...]], base: str, stored: Shapes, *, hint: str) -> None:
    """Raise ConfigError, with `hint`, unless the weights of the adapter `name` fit the `stored` ones of a base."""
    absent = []

    def misfit(words: str) -> ConfigError:
        return ConfigError(f"the adapter `{name}` does not fit `{base}`{words}", hint=hint)

    for tensor, shape in shapes.items():
        module, is_lora, part = tensor.removeprefix("base_model.model.").partition(".lora_")
        weight = stored.get(f"{module}.weight" if is_lora else module)
        if weight is None:
            absent += [module] if is_lora else []
        elif not is_lora and weight != shape and weight[1:] == shape[1:]:
            rows = f"`{module}` has {weight[0]:,} rows, and the adapter {shape[0]:,}"
            raise misfit(f": {rows}; its vocabulary was resized")
        # an NF4 weight is stored as one packed column
        elif len(weight) == 2 and weight[1] > 1 and len(shape) == 2 and part in ("A.weight", "B.weight"):
            found, expected = (shape[1], weight[1]) if part == "A.weight" else (shape[0], weight[0])
            if found != expected:
                side = "inputs" if part == "A.weight" else "outputs"
                raise misfit(f": `{module}` has {expected:,} {side}, and the adapter {found:,}")
    leaves = {tensor.removesuffix(".weight").rpartition(".")[2] for tensor in stored}
    # where none is found, the files of the base may name their layers in another way than the model does
    if absent and (len(absent) < len(shapes) or absent[0].rpartition(".")[2] not in leaves):
        raise misfit(f", which has no `{absent[0]}`")


def modules_in(stored: Shapes) -> list[str]:
    """Return the names of a base's modules, as far as its weights tell; of a head that is tied they do not."""
    parts = [tensor.split(".") for tensor in stored]
    paths = {".".join(names[:length]) for names in parts for length in range(1, len(names))}
    return sorted({*paths, "lm_head"})
