"""Read from the headers of a base's weights what they lack, which layers are linear, and how large experts are.

Families name their tensors in their own ways, but all of them number layers: `model.layers.3.`, `transformer.h.3.`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

from hubdpo import console
from hubdpo.artefacts.manifests.base_memory import BaseMemory
from hubdpo.config.train_groups import EXPERT_LAYERS
from hubdpo.errors import UnsupportedBase
from hubdpo.hub.snapshot import Shapes

LAYER = re.compile(r"^(?:(.*?)\.)?(\d+)\.(.+)$")
EMBEDDING = re.compile(r"(?:^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|embeddings?)\.weight$")
OTHER_EMBEDDING = re.compile(r"(?:^|\.)(wpe|embed_positions|position_embeddings|embed_tokens_per_layer)\.weight$")
HEAD = re.compile(r"(?:^|\.)(lm_head|embed_out|output|output_layer)\.weight$")
NORM = re.compile(r"norm\d*\.weight$")
EXPERTS = re.compile(r"(^|\.)experts(\.|$)")
ROUTER = re.compile(r"(^|\.)(router|\w*gate)(\.|$)")
KEYS, VALUES = ".k_proj.weight", ".v_proj.weight"
FETCH_BOTH = "fetch config.json and the weights again"


def setting(config: Mapping[str, object], *names: str) -> int | None:
    """Return the first of these numbers that config.json has, for the model or for its text part."""
    text = config.get("text_config")
    for facts in (config, text if isinstance(text, dict) else {}):
        for name in names:
            if isinstance(value := facts.get(name), int) and not isinstance(value, bool):
                return value
    return None


def layer_count(config: Mapping[str, object]) -> int | None:
    return setting(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")


def embedding_of(config: Mapping[str, object], shapes: Shapes) -> str | None:
    """Return the name of the token embedding: by its usual names, else by its rows."""
    rows = setting(config, "vocab_size")
    tables = [name for name, shape in shapes.items() if len(shape) == 2 and name.endswith(".weight")]
    named = [name for name in tables if EMBEDDING.search(name)]
    return next(iter([*named, *(name for name in tables if shapes[name][0] == rows and not HEAD.search(name))]), None)


def linear_layers(shapes: Shapes, embedding: str | None) -> frozenset[str]:
    """Return the names of linear layers, without the output head and without experts.

    A matrix that is no embedding is the weight of a linear layer, but for norms that have weights for each head.
    """
    return frozenset(
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and name != embedding
        and not any(other.search(name) for other in (HEAD, OTHER_EMBEDDING, NORM, EXPERTS))
    )  # fmt: skip


def is_adapted_beside_experts(layer: str) -> bool:
    """Tell whether `all-linear` adapts a layer in a mixture of experts: no expert, no router, and none of their names.

    PEFT takes the names in EXPERT_LAYERS for experts there (peft/utils/transformers_weight_conversion.py), so layers of
    these names, such as a shared expert's, cannot be named.
    """
    return not (EXPERTS.search(layer) or ROUTER.search(layer) or layer.rpartition(".")[2] in EXPERT_LAYERS)


def expert_values(shapes: Shapes) -> int:
    """Return the number of values in the experts of a mixture of experts: one by one or stacked."""
    return sum(
        math.prod(shape)
        for name, shape in shapes.items()
        if EXPERTS.search(name) or (len(shape) == 3 and shape[1] > 1)  # it is 1 in the convolution of a single channel
    )


def memory_of(config: Mapping[str, object], shapes: Shapes, linear: Set[str]) -> BaseMemory | None:
    """Return what the base takes in memory; None for weights that are stored in 4 bits, whose shapes are packed."""
    if config.get("quantization_config"):
        return None
    values = sum(math.prod(shapes[f"{name}.weight"]) for name in linear)
    others = sum(map(math.prod, shapes.values())) - values
    return BaseMemory(linear_values=values, other_values=others, cache_values=cache_values(config, shapes))


def cache_values(config: Mapping[str, object], shapes: Shapes) -> int | None:
    """Return how many keys and values the cache holds for a token: the rows of all projections that make them.

    None unless every layer has one projection for keys and one for values, and keeps them for all tokens.
    """
    text = config.get("text_config")
    stated = {**config, **(text if isinstance(text, dict) else {})}
    kinds = stated.get("layer_types") or []
    windowed = bool(stated.get("sliding_window")) and stated.get("use_sliding_window") is not False
    if set(kinds) != {"full_attention"} if isinstance(kinds, list) and kinds else windowed:
        return None
    if any(stated.get(name) for name in ("num_kv_shared_layers", "attention_chunk_size", "kv_lora_rank")):
        return None
    made = [[shape[0] for name, shape in shapes.items() if name.endswith(end)] for end in (KEYS, VALUES)]
    return sum(map(sum, made)) if len(made[0]) == len(made[1]) == layer_count(config) else None


def check_tensors(name: str, config: Mapping[str, object], shapes: Shapes) -> None:
    """Raise UnsupportedBase for weights that lack a tensor, which transformers would fill with random numbers."""
    parts: dict[str, dict[int, set[str]]] = {}  # by stem such as `model.layers`, by layer: names such as `mlp.up_proj`
    for tensor in shapes:
        if layer := LAYER.match(tensor):
            parts.setdefault(layer[1] or "", {}).setdefault(int(layer[2]), set()).add(layer[3])
    if not parts:
        raise UnsupportedBase(f"the weights of `{name}` hold no layers", hint=FETCH_BOTH)
    stem = max(parts, key=lambda stem: sum(map(len, parts[stem].values())))
    gaps = _gaps(stem.rpartition(".")[2], parts[stem], layer_count(config))
    embedding = embedding_of(config, shapes)
    if embedding is None:
        gaps.append("embed_tokens")
    rows = setting(config, "vocab_size")
    if config.get("tie_word_embeddings") is False and not any(
        HEAD.search(tensor) or (len(shape) == 2 and shape[0] == rows and tensor != embedding)
        for tensor, shape in shapes.items()
    ):
        gaps.append("lm_head")
    if gaps:
        lack = f"lack {console.counted(len(gaps), 'tensor')} that config.json asks for, `{gaps[0]}` first"
        raise UnsupportedBase(f"the weights of `{name}` {lack}", hint=FETCH_BOTH)
    columns = setting(config, "word_embed_proj_dim", "hidden_size", "n_embd")
    if embedding is None or rows is None or columns is None or shapes[embedding] == (rows, columns):
        return
    found, wanted = (" x ".join(map(str, shape)) for shape in (shapes[embedding], (rows, columns)))
    raise UnsupportedBase(
        f"the weights of `{name}` do not fit its config.json: the embedding is {found}, not {wanted}", hint=FETCH_BOTH
    )


def _gaps(stem: str, layers: Mapping[int, Set[str]], count: int | None) -> list[str]:
    """Return what numbered layers lack. They may be of several kinds, the first and the last of kinds of their own."""
    kinds = Counter(frozenset(own) for own in layers.values())
    usual = kinds.most_common(1)[0][0]
    numbers = range(min(count, max(layers) + 2)) if count is not None else sorted(layers)
    gaps = []
    for number in numbers:
        own = frozenset(layers.get(number, ()))
        lacks: Set[str] = usual - own if not own else frozenset()
        if own and kinds[own] == 1 and number not in (numbers[0], numbers[-1]):
            lacks = min((kind - own for kind in kinds if own < kind), key=len, default=frozenset())
        gaps += [f"{stem}.{number}.{part}" for part in sorted(lacks)]
    return gaps


@dataclass(frozen=True)
class BaseFacts:
    """What the files of a base state: its config.json, and what the headers of its weights hold.

    `name` is the folder or repo id in messages, `linear_layers` are without head and experts.
    """

    name: str
    config: Mapping[str, object]
    linear_layers: frozenset[str]
    has_head: bool = False
    expert_values: int = 0
    memory: BaseMemory | None = None

    @classmethod
    def of(cls, name: str, config: Mapping[str, object], shapes: Shapes) -> BaseFacts:
        has_head = any(HEAD.search(tensor) for tensor in shapes)
        linear = linear_layers(shapes, embedding_of(config, shapes))
        return cls(name, config, linear, has_head, expert_values(shapes), memory_of(config, shapes, linear))

    @property
    def layers(self) -> int | None:
        return layer_count(self.config)

    @property
    def is_tied(self) -> bool:
        """Whether embedding and output head are the same weights: config.json says so, or there is no head."""
        return bool(self.config.get("tie_word_embeddings", not self.has_head))

    @property
    def all_linear(self) -> frozenset[str]:
        """The names that `all-linear` stands for, as training/step/adapters.py finds them in the model."""
        layers = self.linear_layers
        if self.expert_values:
            layers = frozenset(layer for layer in layers if is_adapted_beside_experts(layer))
        return frozenset(layer.rpartition(".")[2] for layer in layers)
