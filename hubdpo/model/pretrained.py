"""The one door to tokenizers, models and adapters that others made: their files are read, and nothing in them is run.

transformers asks on the terminal whether it may run the code that an `auto_map` names, unless it is told; PEFT opens a
pickle where an adapter has no safetensors. Here both are told no, and whatever keeps files from loading is one line.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubdpo.artefacts.folders.lineage import check_not_an_adapter
from hubdpo.artefacts.formats.bounded import check_count, parse_file, read_bytes, read_object
from hubdpo.errors import ArtefactError, HubdpoError, UnsupportedBase
from hubdpo.hub.client import called
from hubdpo.hub.failures import first_line
from hubdpo.model.adapters.check import check_adapter_files, check_on_base, is_built_in_full
from hubdpo.model.bases.check import check_counts, check_layers, check_shapes, stored_shapes
from hubdpo.model.greedy import generate_greedily, stop_ids
from hubdpo.model.stopping import GENERATION_FILE
from hubdpo.model.tokenizer.chat_template import with_template_kwargs
from hubdpo.model.tokenizer.check import check_tokenizer_growth
from hubdpo.model.tokenizer.rendering import bounded, check_template, encoded

SMALL = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "adapter_config.json", "chat_template.json", "processor_config.json", "preprocessor_config.json",
)  # fmt: skip
"""What transformers and PEFT read as JSON, whole and before anything else."""
LARGE = (
    "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "chat_template.jinja",
    "model.safetensors.index.json",
)  # fmt: skip
AGAIN = "fetch its files again, or tell its owner"
_OUT_OF_MEMORY = re.compile(r"out of memory|allocate memory|not enough memory", re.IGNORECASE)
_OF_AN_ADAPTER = re.compile(r"\.lora_|\.modules_to_save\.|\.trainable_tokens")
_MAY_NAME_CODE = ("tokenizer_config.json", "config.json")


def read_tokenizer(
    folder: Path, template_kwargs: Mapping[str, Any] | None = None, *, error: type[HubdpoError] = UnsupportedBase
) -> Any:
    """Return the tokenizer of a folder, its chat template with these defaults.

    Raise `error` when its files do not make one or ask for code of their own, ConfigError for a default that its
    template does not read.
    """
    from transformers import AutoTokenizer

    check_files(folder, error)
    if not isinstance(template_kwargs or {}, Mapping):
        raise error(f"`chat_template_kwargs` of `{called(folder)}` is no object", hint=AGAIN)
    with _in_one_line(folder, "the tokenizer", error):
        check_counts(folder)
        check_tokenizer_growth(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if not isinstance(most := tokenizer.model_max_length, (int, float)):
            raise ValueError(
                f"`model_max_length` of tokenizer_config.json is {repr(most)[:80]}, and it must be a number"
            )
        templates = tokenizer.chat_template or {}
        templates = list(templates.values()) if isinstance(templates, dict) else [templates]
        if not all(isinstance(template, str) for template in templates):
            raise TypeError("its chat template is no text")
    for template in templates:
        check_template(tokenizer, template, error)
    if template_kwargs:
        tokenizer = bounded(lambda: with_template_kwargs(tokenizer, template_kwargs, called(folder)), tokenizer, error)
        templates = tokenizer.chat_template
        for template in templates.values() if isinstance(templates, dict) else [templates]:
            check_template(tokenizer, template, error)
    return tokenizer


def answer_chat(model: Any, tokenizer: Any, chat: Sequence[Mapping[str, Any]], *, max_new_tokens: int) -> str:
    """Return the greedy answer of a model to a chat.

    Raise ArtefactError when the tokenizer has no chat template, or it refuses this chat, is beyond a limit on it or
    writes nothing of it; when the model fails, as one does whose config was loaded and makes no sense.
    """
    folder = Path(tokenizer.name_or_path)
    with _in_one_line(folder, "the chat template", ArtefactError):
        inputs = encoded(tokenizer, chat).to(model.device)
    with _in_one_line(folder, "the model", ArtefactError, "cannot answer"):
        return generate_greedily(model, tokenizer, inputs, max_new_tokens=max_new_tokens)


def check_files(folder: Path, error: type[HubdpoError]) -> None:
    """Raise `error` when a JSON file or a text that transformers reads of a folder is beyond a limit or is none."""
    for name in (*SMALL, *LARGE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            data = read_bytes(path, of=called(folder))
            if name in SMALL:
                parse_file(data, name)
            elif path.suffix == ".json":
                check_count(data)
        except ArtefactError as problem:
            raise error(problem.message, hint=AGAIN) from None
        except ValueError as problem:
            raise error(f"`{name}` of `{called(folder)}` cannot be read: {problem}", hint=AGAIN) from None


def read_causal_lm(
    folder: Path, *, error: type[HubdpoError] = UnsupportedBase, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Return the model of a folder and what transformers tells of the loading; `options` are its own.

    Raise `error` when its files do not make one or ask for code of their own, UnsupportedBase for an adapter, which
    transformers would load on whatever base it names.
    """
    from transformers import AutoModelForCausalLM

    check_files(folder, error)
    check_not_an_adapter(folder, called(folder))
    _check_fits(folder, error)
    _check_generation(folder, error)
    with _in_one_line(folder, "the model", error):
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, output_loading_info=True,
            attn_implementation="sdpa", **options,
        )  # fmt: skip
    return model, loading


def _check_fits(folder: Path, error: type[HubdpoError]) -> None:
    """Raise `error` when a model is not what its weights hold: its parameters are named, and take no memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with _in_one_line(folder, "the model", error):
        config, stored = check_counts(folder), stored_shapes(folder)
        check_layers(config, stored)
        known = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(known, trust_remote_code=False, attn_implementation="sdpa")
        asked = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        check_shapes(asked, stored, packed="quantization_config" in config)


def _check_generation(folder: Path, error: type[HubdpoError]) -> None:
    """Raise `error`, naming the file, for a generation_config.json that transformers does not take."""
    from transformers import GenerationConfig

    if not (folder / GENERATION_FILE).is_file():
        return
    with _in_one_line(folder, GENERATION_FILE, error):
        found = GenerationConfig.from_pretrained(folder, local_files_only=True)
    try:
        stop_ids(found.eos_token_id)
    except ArtefactError as problem:
        raise error(f"`{called(folder)}`: {problem.message}", hint=problem.hint) from None


def attach_adapter(base: Any, folder: Path) -> Any:
    """Return a PEFT model: the adapter of a folder on its base. Raise ArtefactError when it has no safetensors or
    does not fit.
    """
    from peft import PeftModel

    config = check_adapter_files(folder)
    check_on_base(folder, config, [name for name, _ in base.named_modules() if name])
    in_full = is_built_in_full(config)
    with _in_one_line(folder, "the adapter", ArtefactError), warnings.catch_warnings():
        # where room is made for what the weights hold and not for what the config asks for, it is told below
        warnings.filterwarnings("error" if in_full else "ignore", message="Found missing adapter keys")
        model = PeftModel.from_pretrained(base, str(folder), local_files_only=True, low_cpu_mem_usage=not in_full)
    lacking = [name for name, weight in model.named_parameters() if weight.is_meta and _OF_AN_ADAPTER.search(name)]
    if lacking:
        raise ArtefactError(
            f"adapter_config.json of `{called(folder)}` asks for {len(lacking)} tensors that its weights lack, "
            f"`{lacking[0]}` first",
            hint=f"hubdpo inspect {called(folder)}, and tell its owner",
        )
    return model


@contextmanager
def _in_one_line(folder: Path, what: str, error: type[HubdpoError], fails: str = "cannot be loaded") -> Iterator[None]:
    """Raise `error` for whatever the libraries raise in the body; what says that memory ran out is left alone."""
    try:
        yield
    except HubdpoError:
        raise
    except BaseException as problem:
        # what Rust panics with, such as at a regular expression that it gives up, is no Exception
        if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":
            raise
        if isinstance(problem, MemoryError) or _OUT_OF_MEMORY.search(str(problem)):
            raise
        for name in _MAY_NAME_CODE:
            if "custom code" in str(problem) and _asks_for_code(folder / name):
                raise error(
                    f"`{called(folder)}` asks to run code of its own (`auto_map` in {name}), which hubdpo never does",
                    hint="use a model whose architecture and tokenizer transformers has itself",
                ) from problem
        kind = "" if type(problem) is ValueError else f"{type(problem).__name__}: "
        raise error(
            f"{what} of `{called(folder)}` {fails}: {kind}{first_line(problem)}",
            hint=AGAIN,
        ) from problem


def _asks_for_code(path: Path) -> bool:
    try:
        return bool(read_object(path).get("auto_map"))
    except (OSError, ArtefactError):
        return False
