"""The one door to tokenizers, models and adapters that others made: their files are read, and nothing in them is run.

transformers asks on the terminal whether it may run the code that an `auto_map` names, unless it is told; PEFT opens a
pickle where an adapter has no safetensors. Here both are told no, and whatever keeps files from loading is one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubdpo.data.chat_template import with_template_kwargs
from hubdpo.errors import ArtefactError, HubdpoError, UnsupportedBase
from hubdpo.hub.failures import first_line
from hubdpo.hub.lineage import check_not_an_adapter

WEIGHTS = "adapter_model.safetensors"
AGAIN = "fetch its files again, or tell its owner"
_OUT_OF_MEMORY = re.compile(r"out of memory|allocate memory|not enough memory", re.IGNORECASE)
_MAY_NAME_CODE = ("tokenizer_config.json", "config.json")


def read_tokenizer(
    folder: Path, template_kwargs: Mapping[str, Any] | None = None, *, error: type[HubdpoError] = UnsupportedBase
) -> Any:
    """Return the tokenizer of a folder, its chat template with these defaults.

    Raise `error` when its files do not make one or ask for code of their own, ConfigError for a default that its
    template does not read.
    """
    from transformers import AutoTokenizer

    with _in_one_line(folder, "the tokenizer", error):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return with_template_kwargs(tokenizer, template_kwargs, called(folder))


def read_causal_lm(
    folder: Path, *, error: type[HubdpoError] = UnsupportedBase, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Return the model of a folder and what transformers tells of the loading; `options` are its own.

    Raise `error` when its files do not make one or ask for code of their own, UnsupportedBase for an adapter, which
    transformers would load on whatever base it names.
    """
    from transformers import AutoModelForCausalLM

    check_not_an_adapter(folder, called(folder))
    with _in_one_line(folder, "the model", error):
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, output_loading_info=True,
            attn_implementation="sdpa", **options,
        )  # fmt: skip
    return model, loading


def attach_adapter(base: Any, folder: Path) -> Any:
    """Return a PEFT model: the adapter of a folder on its base. Raise ArtefactError when it has no safetensors or
    does not fit.
    """
    from peft import PeftModel

    if not (folder / WEIGHTS).is_file():
        raise ArtefactError(
            f"`{called(folder)}` has no {WEIGHTS}, and weights in any other form are not opened",
            hint="ask its owner for a revision with safetensors",
        )
    with _in_one_line(folder, "the adapter", ArtefactError):
        return PeftModel.from_pretrained(base, str(folder), local_files_only=True)


def called(folder: Path) -> str:
    """Return the name of the repo that a folder of the cache is of; of any other folder its path."""
    repo = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repo.startswith("models--"):
        return repo.removeprefix("models--").replace("--", "/")
    return str(folder)


@contextmanager
def _in_one_line(folder: Path, what: str, error: type[HubdpoError]) -> Iterator[None]:
    """Raise `error` for whatever the libraries raise in the body; what says that memory ran out is left alone."""
    try:
        yield
    except HubdpoError:
        raise
    except Exception as problem:
        if isinstance(problem, MemoryError) or _OUT_OF_MEMORY.search(str(problem)):
            raise
        for name in _MAY_NAME_CODE:
            if _asks_for_code(folder / name):
                raise error(
                    f"`{called(folder)}` asks to run code of its own (`auto_map` in {name}), which hubdpo never does",
                    hint="use a model whose architecture and tokenizer transformers has itself",
                ) from problem
        raise error(
            f"{what} of `{called(folder)}` cannot be loaded: {type(problem).__name__}: {first_line(problem)}",
            hint=AGAIN,
        ) from problem


def _asks_for_code(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("auto_map"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
