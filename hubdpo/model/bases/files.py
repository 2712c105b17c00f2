"""Can this base be trained on? Told from its small files and the headers of its weights, without loading any.

Every refusal is one sentence about the base and the next thing to type: what transformers and PEFT say of the same
bases comes minutes later, as a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubdpo.artefacts.formats.bounded import check_size, parse_object
from hubdpo.artefacts.formats.safetensors_header import is_lfs_pointer, read_header
from hubdpo.errors import ArtefactError, ConfigError, UnsupportedBase
from hubdpo.hub.snapshot import Snapshot

FAMILY = ("qwen2", "qwen3")
CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
JSON_FILES = (
    TOKENIZER, TOKENIZER_CONFIG, "vocab.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
)  # fmt: skip
TEMPLATE = re.compile(r"(chat_template|additional_chat_templates/[^/]+)\.jinja")
PICKLE = re.compile(r"[^/]+\.(bin|pt|pth|ckpt|pkl)")
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(.+)\.weight$")
QUANTISED_NAME = re.compile(r"[-_](awq|gptq|fp8|int[48]|[48]bits?|w\d+a\d+|nvfp4|mxfp4)(?=[-_]|$).*", re.IGNORECASE)
SUPPORTED = "use a dense text model of Qwen2, Qwen2.5 or Qwen3, such as Qwen/Qwen2-7B-Instruct"
CONVERTER = "https://huggingface.co/spaces/safetensors/convert"


@dataclass(frozen=True)
class BaseFacts:
    """What a base says of itself: its config.json, and the names of its linear layers, the output head not among them.

    `name` is the one that it was asked for by.
    """

    name: str
    config: Mapping[str, Any]
    linear_layers: frozenset[str]

    @property
    def layers(self) -> int | None:
        return found if isinstance(found := self.config.get("num_hidden_layers"), int) else None

    @property
    def is_tied(self) -> bool:
        """Whether embedding and output head are the same weights."""
        return bool(self.config.get("tie_word_embeddings", False))


def check_base(place: Snapshot, *, load_in_4bit: bool | None = None) -> BaseFacts:
    """Return what a base says of itself once nothing speaks against training on it.

    Raise UnsupportedBase for another kind of model, for files that are missing, broken or never fetched, and for
    weights quantised by anything but bitsandbytes' NF4; ConfigError for NF4 when `load_in_4bit` is False.
    """
    config = check_config(place, load_in_4bit=load_in_4bit)
    _check_tokenizer(place)
    shapes = _shapes(place)
    _check_weights(place.name, config, shapes)
    linear = {
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and not name.endswith(("lm_head.weight", "embed_tokens.weight"))
    }
    return BaseFacts(place.name, config, frozenset(linear))


def check_config(place: Snapshot, *, load_in_4bit: bool | None = None) -> dict[str, Any]:
    """Return config.json of a model that is of the right family and precision. Raise what `check_base` raises."""
    if CONFIG not in place.files:
        raise UnsupportedBase(f"`{place.name}` has no config.json, so it is not a transformers model", hint=SUPPORTED)
    settings = _read_json(place, CONFIG)
    kind = settings.get("model_type")
    if kind not in FAMILY:
        raise UnsupportedBase(f"`{place.name}` is {_kind(kind, settings)}", hint=SUPPORTED)
    if settings.get("use_sliding_window"):
        raise UnsupportedBase(f"`{place.name}` attends in a sliding window, which is not supported", hint=SUPPORTED)
    _check_precision(place.name, settings, load_in_4bit)
    return settings


def _kind(kind: str | None, settings: dict[str, Any]) -> str:
    """Say what the model is instead; of Qwen's other kinds, why they are not supported."""
    if kind is None:
        return "of no type that its config.json names"
    if kind.startswith(FAMILY):
        if "vision_config" in settings or kind.endswith(("_vl", "_vl_text")):
            return f"a `{kind}` model, which reads images; only text models of the Qwen2 family are supported"
        if "num_experts" in settings or kind.endswith("_moe"):
            return f"a `{kind}` model, a mixture of experts; only dense models of the Qwen2 family are supported"
    return f"a `{kind}` model, which is not of the Qwen2 family"


def _check_precision(name: str, settings: dict[str, Any], load_in_4bit: bool | None) -> None:
    # `compression_config` is what compressed-tensors wrote once, `quantization` what MLX writes
    found = next(
        (settings[key] for key in ("quantization_config", "compression_config", "quantization") if settings.get(key)),
        None,
    )
    if found is None:
        return
    facts = found if isinstance(found, dict) else {}
    method = str(facts.get("quant_method") or ("MLX" if "quantization" in settings else "a method it does not name"))
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
    """Return the name of the model before it was quantised, as far as its own name tells."""
    shorter = QUANTISED_NAME.sub("", name)
    return shorter if shorter != name and "/" in name.strip("./") else "Qwen/Qwen2-7B-Instruct"


def _check_tokenizer(place: Snapshot) -> None:
    for name in ("merges.txt", *(name for name in place.files if TEMPLATE.fullmatch(name))):
        if name in place.files:
            _refuse_pointer(place, name, place.read(name)[:64])
    read = {name: _read_json(place, name) for name in JSON_FILES if name in place.files}
    if TOKENIZER not in read and not ("vocab.json" in read and "merges.txt" in place.files):
        raise UnsupportedBase(f"`{place.name}` has no tokenizer.json", hint=f"fetch it: {_fetched(place, TOKENIZER)}")
    if not read.get(TOKENIZER_CONFIG, {}).get("chat_template") and not any(map(TEMPLATE.fullmatch, place.files)):
        raise UnsupportedBase(
            f"`{place.name}` has no chat template, so there is no way to write a conversation for it",
            hint="use the model's -Instruct version, or put its chat_template.jinja into a folder with the base",
        )


def _shapes(place: Snapshot) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of the weights that transformers would load."""
    if WEIGHTS in place.files:
        return _shapes_of(place, WEIGHTS)
    if INDEX not in place.files:
        raise _no_weights(place)
    index = _read_json(place, INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise UnsupportedBase(
            f"`{INDEX}` of `{place.name}` names no weights", hint=f"fetch it: {_fetched(place, INDEX)}"
        )
    shards = sorted(set(map(str, index.values())))
    if missing := [name for name in shards if name not in place.files]:
        raise UnsupportedBase(
            f"`{place.name}` lacks {len(missing)} of its {len(shards)} files of weights, `{missing[0]}` first",
            hint=f"fetch them: {_fetched(place, missing[0])}",
        )
    found = {name: shape for shard in shards for name, shape in _shapes_of(place, shard).items()}
    if absent := sorted(set(index) - set(found)):
        raise UnsupportedBase(
            f"`{place.name}` lacks {len(absent)} tensors that its {INDEX} names, `{absent[0]}` first",
            hint=f"fetch it again: {_fetched(place, str(index[absent[0]]))}",
        )
    return found


def _shapes_of(place: Snapshot, name: str) -> dict[str, tuple[int, ...]]:
    try:
        path = place.path(name)
        return read_header(path) if path is not None else place.shapes(name)
    except (ArtefactError, ValueError) as problem:
        raise UnsupportedBase(
            f"`{name}` of `{place.name}` is broken: {problem}", hint=f"fetch it again: {_fetched(place, name)}"
        ) from None


def _check_weights(name: str, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse weights with gaps, which transformers would fill with random numbers."""
    have: dict[int, set[str]] = {}
    for tensor in shapes:
        if found := LAYER.search(tensor):
            have.setdefault(int(found[1]), set()).add(found[2])
    every = set().union(*have.values())
    count = config.get("num_hidden_layers")
    layers = range(count) if isinstance(count, int) else sorted(have)
    gaps = [f"layers.{layer}.{part}" for layer in layers for part in sorted(every - have.get(layer, set()))]
    embedding = next((tensor for tensor in shapes if tensor.endswith("embed_tokens.weight")), None)
    if embedding is None:
        gaps.append("embed_tokens")
    if not config.get("tie_word_embeddings", False) and not any(t.endswith("lm_head.weight") for t in shapes):
        gaps.append("lm_head")
    if gaps or not every:
        what = f"lack {len(gaps)} tensors that config.json asks for, `{gaps[0]}` first" if every else "hold no layers"
        raise UnsupportedBase(f"the weights of `{name}` {what}", hint="fetch config.json and the weights again")
    expected = (config.get("vocab_size"), config.get("hidden_size"))
    if None not in expected and embedding is not None and shapes[embedding] != expected:
        raise UnsupportedBase(
            f"the weights of `{name}` do not fit its config.json: the embedding is {_by(shapes[embedding])}, "
            f"not {_by(expected)}",
            hint="fetch config.json and the weights again",
        )


def _no_weights(place: Snapshot) -> UnsupportedBase:
    if pickles := sorted(name for name in place.files if PICKLE.fullmatch(name)):
        return UnsupportedBase(
            f"`{place.name}` has its weights as a pickle alone, `{pickles[0]}`, which can run code and is never opened",
            hint=f"take a revision with safetensors; {CONVERTER} makes one",
        )
    if any(name.endswith(".gguf") for name in place.files):
        return UnsupportedBase(f"`{place.name}` has GGUF weights, which cannot be trained on", hint=SUPPORTED)
    return UnsupportedBase(f"`{place.name}` has no {WEIGHTS}", hint=f"fetch it: {_fetched(place, '*.safetensors')}")


def _read_json(place: Snapshot, name: str) -> dict[str, Any]:
    try:
        check_size(name, place.files[name], of=place.name)
    except ArtefactError as problem:
        raise UnsupportedBase(problem.message, hint=f"fetch it again: {_fetched(place, name)}") from None
    data = place.read(name)
    _refuse_pointer(place, name, data[:64])
    try:
        return parse_object(data, name, of=f"`{place.name}`")
    except ArtefactError as problem:
        raise UnsupportedBase(problem.message, hint=f"fetch it again: {_fetched(place, name)}") from None


def _refuse_pointer(place: Snapshot, name: str, start: bytes) -> None:
    if is_lfs_pointer(start):
        raise UnsupportedBase(
            f"`{name}` of `{place.name}` is a git-lfs pointer, and the file itself was never fetched",
            hint=_fetched(place, name),
        )


def _fetched(place: Snapshot, name: str) -> str:
    """Return the command that fetches a file of a base again, as far as it is known where it came from."""
    if place.commit is not None:
        return f"hf download {place.name} --include '{name}' --force-download"
    if ".git/HEAD" in place.files:
        return f"git -C {place.name} lfs pull"
    return f"hf download USER/NAME --include '{name}' --local-dir {place.name}"


def _by(shape: tuple[Any, ...]) -> str:
    return " x ".join(map(str, shape))
