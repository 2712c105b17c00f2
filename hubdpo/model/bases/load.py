"""Load a base model from its files, quantised the same way for training, evaluation and loading back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.artefacts.folders.lineage import check_not_an_adapter
from hubdpo.artefacts.folders.model_files import CONFIG, GENERATION_CONFIG, INDEX
from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.errors import ArtefactError, UnsupportedBase
from hubdpo.hub.client import called
from hubdpo.hub.snapshot import FolderSnapshot, Shapes
from hubdpo.model.bases.files import weight_shapes
from hubdpo.model.device import compute_dtype
from hubdpo.model.generation import stop_ids
from hubdpo.model.quiet import without_chatter
from hubdpo.model.untrusted import MOST_COUNTS, check_counts, check_files, one_line_errors

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel


MOST_TIMES, MOST_TIMES_PACKED, SPARE = 3, 10, 50_000_000
"""Most values that a model may ask for: so many times those stored, more where they are packed into few bits, plus a
fixed number."""


def load_base(
    folder: Path, *, device: str, load_in_4bit: bool, dtype: str = "auto", device_map: object = None
) -> PreTrainedModel:
    """Load a base: NF4 with double quantisation (QLoRA, arXiv 2305.14314), or not quantised.

    It is in `dtype`, which `auto` takes from the device (float16 gave NaN in DPO). Raise UnsupportedBase
    for files that make no model, or whose weights lack a tensor.
    """
    import torch
    from transformers import BitsAndBytesConfig

    computing = compute_dtype(device, dtype)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computing,
        # FSDP shards the quantised weights only when they are stored in the compute type
        bnb_4bit_quant_storage=computing,
    )
    model = read_causal_lm(
        folder,
        dtype=computing,
        quantization_config=quantised if load_in_4bit else None,
        device_map=device_map or ({"": torch.cuda.current_device()} if device == "cuda" else None),
    )
    _keep_weights_as_they_are(model)
    return model


def read_causal_lm(
    folder: Path, *, dtype: torch.dtype, quantization_config: BitsAndBytesConfig | None = None,
    device_map: object = None,
) -> PreTrainedModel:  # fmt: skip
    """Load the model of a folder with transformers, from safetensors alone and without running any code of the repo.

    Raise UnsupportedBase when its files make no model or ask to run code; when the weights lack a tensor, which
    transformers would fill at random; and for an adapter, which transformers would load on whatever base it names.
    """
    from transformers import AutoModelForCausalLM

    check_files(folder, (CONFIG, GENERATION_CONFIG, INDEX), UnsupportedBase)
    check_not_an_adapter(folder, called(folder))
    attention = _check_fits(folder)
    _check_generation(folder)
    with one_line_errors(folder, "the model", UnsupportedBase), without_chatter():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, output_loading_info=True,
            attn_implementation=attention, dtype=dtype, quantization_config=quantization_config, device_map=device_map,
        )  # fmt: skip
    if missing := sorted(info["missing_keys"]):
        raise UnsupportedBase(
            f"the weights of `{called(folder)}` lack {console.counted(len(missing), 'tensor')} of the model, "
            f"`{missing[0]}` first",
            hint="fetch config.json and the weights again",
        )
    return model


def _check_fits(folder: Path) -> str:
    """Return the attention that the model is to be loaded with: sdpa, or `eager` where its class cannot use that.

    Raise UnsupportedBase when config.json asks for more than the weights hold.

    transformers builds as many layers as config.json says. Tensors that the weights lack, or have in another shape, it
    fills with random numbers in full size.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    is_cached = called(folder) != str(folder)
    with one_line_errors(folder, "the model", UnsupportedBase):
        config = check_counts(folder)
        stored = weight_shapes(FolderSnapshot(folder, name=called(folder), commit=folder.name if is_cached else None))
        _check_layers(config, stored)
        known = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        # named, so that no field of config.json can name code from a repo
        attention = "sdpa" if AutoModelForCausalLM._model_mapping[type(known)]._supports_sdpa else "eager"
        with torch.device("meta"):  # parameters with a shape and no memory
            model = AutoModelForCausalLM.from_config(known, trust_remote_code=False, attn_implementation=attention)
        wanted = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        _check_shapes(wanted, stored, packed="quantization_config" in config)
    return attention


def _check_layers(config: JsonObject, stored: Shapes) -> None:
    """Raise ValueError when the config has more text layers than the weights have numbers for.

    Fields nested elsewhere may describe parts that are not built, such as the image tower that a text model was cut
    from.
    """
    layers = 1 + max((int(part) for name in stored for part in name.split(".") if part.isdecimal()), default=-1)
    text = config.get("text_config")
    for name, value in (*config.items(), *(text.items() if isinstance(text, dict) else ())):
        if name in MOST_COUNTS and "layer" in name and isinstance(value, int) and value > layers:
            raise ValueError(f"`{name}` of {CONFIG} is {value:,}, and its weights hold {layers:,}")


def _check_shapes(wanted: Shapes, stored: Shapes, *, packed: bool) -> None:
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


def _check_generation(folder: Path) -> None:
    """Raise UnsupportedBase for a generation_config.json that transformers does not accept."""
    from transformers import GenerationConfig

    if not (folder / GENERATION_CONFIG).is_file():
        return
    with one_line_errors(folder, GENERATION_CONFIG, UnsupportedBase):
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    try:
        stop_ids(generation.eos_token_id)
    except ArtefactError as problem:
        raise UnsupportedBase(f"`{called(folder)}`: {problem.message}", hint=problem.hint) from None


def _keep_weights_as_they_are(model: PreTrainedModel) -> None:
    """Forbid bitsandbytes to repack 4-bit weights for CPUs with AVX512-BF16.

    It would do so at the first forward pass in evaluation mode. Training after that would run, and fail in, a kernel
    for inference only (bitsandbytes/nn/modules.py, `Linear4bit.forward`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
