"""Compare an adapter with a base by their files: shapes of weights, tokens and chat template. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from hubdpo import console
from hubdpo.artefacts.folders.model_files import CHAT_TEMPLATE, TOKENIZER_CONFIG
from hubdpo.artefacts.formats.bounded import JsonObject, parse_object, shortened
from hubdpo.config import TrainConfig
from hubdpo.config.flags import quoted
from hubdpo.errors import ConfigError
from hubdpo.hub.snapshot import FolderSnapshot, Shapes, Snapshot
from hubdpo.model.adapters.start import StartAdapter

TOKENIZER = "tokenizer.json"


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


def say_other_tokens(start: StartAdapter, config: TrainConfig, base: Snapshot) -> None:
    """Warn of a chat template, or of added tokens, that the adapter was trained with and its base lacks.

    A run takes tokens from the base, and the template unless `--chat-template` gives another.
    """
    own = FolderSnapshot(start.folder, all_files=True)
    template = template_of(own)
    # of a run of hubdpo it is known which template it was given
    is_said = config.chat_template is not None or (start.run is not None and start.run.has_own_template)
    if template is not None and not is_said and template != template_of(base):
        console.warn(f"`{start.ref.name}` has another chat template than `{base.name}`, whose template this run uses")
        if CHAT_TEMPLATE in own.files:
            console.hint(f"--chat-template {quoted(start.folder / CHAT_TEMPLATE)}")
    if start.run is not None and start.run.adopted is not None and start.run.adopted.own_tokenizer:
        console.warn(
            f"`{start.ref.name}` was trained with another tokenizer than `{base.name}`, whose tokens this run has"
        )
    if added := sorted(_added_tokens(own).keys() - _added_tokens(base).keys()) if TOKENIZER in own.files else []:
        names = ", ".join(f"`{shortened(token, 40)}`" for token in added[:3])
        console.warn(
            f"the tokenizer of `{start.ref.name}` has {console.counted(len(added), 'token')} that `{base.name}` lacks, "
            f"and this run does not use: {names}"
        )


def template_of(files: Snapshot) -> str | None:
    """Return the chat template of a model's or adapter's files, None where they have none or several."""
    if CHAT_TEMPLATE in files.files:
        return files.text(CHAT_TEMPLATE)
    template = _object(files, TOKENIZER_CONFIG).get("chat_template")
    return template if isinstance(template, str) else None


def _added_tokens(files: Snapshot) -> dict[str, object]:
    added = _object(files, TOKENIZER).get("added_tokens")
    tokens = [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    return {str(token.get("content")): token.get("id") for token in tokens}


def _object(files: Snapshot, name: str) -> JsonObject:
    return parse_object(files.read(name), name, of=f"`{files.name}`") if name in files.files else {}
