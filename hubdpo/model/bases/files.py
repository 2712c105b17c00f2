"""Check that a base can be trained on, from its small files and the headers of its weights, without loading weights.

Every refusal is one sentence about the base and the next thing to type. transformers and PEFT refuse the same bases
minutes later, with a traceback.
"""

from __future__ import annotations

import re

from hubdpo import console
from hubdpo.artefacts.folders.model_files import CONFIG, COPIED_FILES, INDEX, TOKENIZER_CONFIG, WEIGHTS, weight_map
from hubdpo.artefacts.folders.named import base_instead
from hubdpo.artefacts.formats.bounded import JsonObject, parse_object
from hubdpo.artefacts.formats.safetensors_header import is_lfs_pointer
from hubdpo.errors import ArtefactError, ConfigError, UnsupportedBase
from hubdpo.hub.snapshot import Shapes, Snapshot
from hubdpo.model.bases.kinds import SUPPORTED, check_kind
from hubdpo.model.bases.tensors import BaseFacts, check_tensors

TOKENIZER = "tokenizer.json"
TEMPLATE = re.compile(r"(chat_template|additional_chat_templates/[^/]+)\.jinja")
PICKLE = re.compile(r"[^/]+\.(bin|pt|pth|ckpt|pkl)")
QUANTISED_NAME = re.compile(r"[-_](awq|gptq|fp8|int[48]|[48]bits?|w\d+a\d+|nvfp4|mxfp4)(?=[-_]|$).*", re.IGNORECASE)
CONVERTER = "https://huggingface.co/spaces/safetensors/convert"


def check_base(base: Snapshot, *, load_in_4bit: bool | None = None, needs_template: bool = True) -> BaseFacts:
    """Return the facts about a base that can be trained on.

    Raise UnsupportedBase for another kind of model, for files that are missing, broken or never fetched, and for
    weights quantised by anything but bitsandbytes' NF4; ConfigError for NF4 when `load_in_4bit` is False.
    """
    config = check_config(base, load_in_4bit=load_in_4bit)
    _check_tokenizer(base, needs_template=needs_template)
    shapes = weight_shapes(base)
    check_tensors(base.name, config, shapes)
    return BaseFacts.of(base.name, config, shapes)


def check_config(base: Snapshot, *, load_in_4bit: bool | None = None) -> JsonObject:
    """Return config.json of a model of the right kind and precision. Raise what `check_base` raises."""
    if CONFIG not in base.files:
        raise UnsupportedBase(
            f"`{base.name}` has no config.json, so it is not a transformers model", hint=base_instead(base.name)
        )
    config = _read_json(base, CONFIG)
    check_kind(base.name, config)
    _check_precision(base.name, config, load_in_4bit)
    return config


def _check_precision(name: str, config: JsonObject, load_in_4bit: bool | None) -> None:
    # older versions of compressed-tensors write `compression_config`, and MLX writes `quantization`
    keys = ("quantization_config", "compression_config", "quantization")
    quantisation = next((config[key] for key in keys if config.get(key)), None)
    if quantisation is None:
        return
    facts = quantisation if isinstance(quantisation, dict) else {}
    method = str(facts.get("quant_method") or ("MLX" if "quantization" in config else "a method it does not name"))
    if method == "bitsandbytes":
        if facts.get("load_in_4bit") and facts.get("bnb_4bit_quant_type", "fp4") == "nf4":
            if load_in_4bit is False:
                raise ConfigError(
                    f"`{name}` is quantised to NF4 already, so there is no other precision to train it in",
                    hint=f"leave `--no-load-in-4bit` out, or use {_original(name)}",
                )
            return
        method += " in 4 bits but not NF4" if facts.get("load_in_4bit") else " in 8 bits"
    raise UnsupportedBase(
        f"`{name}` is quantised by {method}; hubdpo trains on weights that are not quantised, or on bitsandbytes' NF4",
        hint=f"use the model that it was made from: --model-name-or-path {_original(name)}",
    )


def _original(name: str) -> str:
    shorter = QUANTISED_NAME.sub("", name)
    return shorter if shorter != name and "/" in name.strip("./") else "Qwen/Qwen2-7B-Instruct"


def _check_tokenizer(base: Snapshot, *, needs_template: bool) -> None:
    templates = [name for name in base.files if TEMPLATE.fullmatch(name)]
    for name in ("merges.txt", *templates):
        if name in base.files:
            _refuse_pointer(base, name, base.read(name))
    names = [name for name in COPIED_FILES if name.endswith(".json") and name in base.files]
    contents = {name: _read_json(base, name) for name in names}
    if TOKENIZER not in contents and not ("vocab.json" in contents and "merges.txt" in base.files):
        raise UnsupportedBase(f"`{base.name}` has no tokenizer.json", hint=f"fetch it: {_fetch(base, TOKENIZER)}")
    if needs_template and not contents.get(TOKENIZER_CONFIG, {}).get("chat_template") and not templates:
        raise UnsupportedBase(
            f"`{base.name}` has no chat template, so there is no way to write a conversation for it",
            hint="--chat-template chatml",
        )


def weight_shapes(base: Snapshot) -> Shapes:
    """Return the shapes, by name, of all tensors that transformers would load.

    Raise UnsupportedBase for weights that are missing or broken, or in any form but safetensors.
    """
    if WEIGHTS in base.files:
        return _shapes_in(base, WEIGHTS)
    if INDEX not in base.files:
        raise _no_weights(base)
    try:
        index = weight_map(_read_json(base, INDEX))
    except ValueError as problem:
        raise UnsupportedBase(f"`{base.name}`: {problem}", hint=f"fetch it: {_fetch(base, INDEX)}") from None
    shards = sorted(set(index.values()))
    if missing := [name for name in shards if name not in base.files]:
        raise UnsupportedBase(
            f"`{base.name}` lacks {len(missing)} of its {len(shards)} files of weights, `{missing[0]}` first",
            hint=f"fetch them: {_fetch(base, missing[0])}",
        )
    shapes = {name: shape for shard in shards for name, shape in _shapes_in(base, shard).items()}
    if absent := sorted(set(index) - set(shapes)):
        raise UnsupportedBase(
            f"`{base.name}` lacks {console.counted(len(absent), 'tensor')} that its {INDEX} names, `{absent[0]}` first",
            hint=f"fetch it again: {_fetch(base, index[absent[0]])}",
        )
    return shapes


def _shapes_in(base: Snapshot, name: str) -> Shapes:
    try:
        return base.shapes(name)
    except ArtefactError as problem:
        raise UnsupportedBase(
            f"the weights of `{base.name}` are broken: {problem.message}", hint=f"fetch it again: {_fetch(base, name)}"
        ) from None


def _no_weights(base: Snapshot) -> UnsupportedBase:
    if pickles := sorted(name for name in base.files if PICKLE.fullmatch(name)):
        return UnsupportedBase(
            f"`{base.name}` has its weights as a pickle alone, `{pickles[0]}`, which can run code and is never opened",
            hint=f"take a revision with safetensors; {CONVERTER} makes one",
        )
    if any(name.endswith(".gguf") for name in base.files):
        return UnsupportedBase(f"`{base.name}` has GGUF weights, which cannot be trained on", hint=SUPPORTED)
    return UnsupportedBase(f"`{base.name}` has no {WEIGHTS}", hint=f"fetch it: {_fetch(base, '*.safetensors')}")


def _read_json(base: Snapshot, name: str) -> JsonObject:
    try:
        data = base.read(name)
        _refuse_pointer(base, name, data)
        return parse_object(data, name, of=f"`{base.name}`")
    except ArtefactError as problem:
        raise UnsupportedBase(problem.message, hint=f"fetch it again: {_fetch(base, name)}") from None


def _refuse_pointer(base: Snapshot, name: str, data: bytes) -> None:
    if is_lfs_pointer(data):
        raise UnsupportedBase(
            f"`{name}` of `{base.name}` is a git-lfs pointer, and the file itself was never fetched",
            hint=_fetch(base, name),
        )


def _fetch(base: Snapshot, name: str) -> str:
    if base.commit is not None:
        return f"hf download {base.name} --include '{name}' --force-download"
    if ".git/HEAD" in base.files:
        return f"git -C {base.name} lfs pull"
    return f"hf download USER/NAME --include '{name}' --local-dir {base.name}"
