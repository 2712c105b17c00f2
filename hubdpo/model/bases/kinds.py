"""Tell by its config.json whether a model is one that transformers runs as a causal language model of text.

The kinds are those of the installed transformers. Its tables are read as text, as importing them takes seconds.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
from pathlib import Path

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.errors import UnsupportedBase

SUPPORTED = "use a causal language model of text, such as Qwen/Qwen2-7B-Instruct"
TABLES = "models/auto/modeling_auto.py"
ENTRY = re.compile(r'\(\s*"([^"]+)"')


def check_kind(name: str, config: JsonObject) -> None:
    """Raise UnsupportedBase for a model that is not a decoder of text alone, needs its own code, or is unknown."""
    if problem := _problem(config):
        raise UnsupportedBase(f"`{name}` is {problem[0]}", hint=problem[1])


def _problem(config: JsonObject) -> tuple[str, str] | None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return "of no type that its config.json names", SUPPORTED
    if "vision_config" in config or kind in _kinds("IMAGE_TEXT_TO_TEXT"):
        return f"a `{kind}` model, which reads images; only models of text alone are trained", SUPPORTED
    if "audio_config" in config or kind in _kinds("SPEECH_SEQ_2_SEQ"):
        return f"a `{kind}` model, which reads sound; only models of text alone are trained", SUPPORTED
    if config.get("is_encoder_decoder") or kind in _kinds("SEQ_TO_SEQ_CAUSAL_LM"):
        return f"a `{kind}` model, which has an encoder; only decoders are trained", SUPPORTED
    if kind in _kinds("MASKED_LM") and not config.get("is_decoder"):
        return f"a `{kind}` model, which reads text in both directions; only decoders are trained", SUPPORTED
    known = _kinds("CAUSAL_LM")
    if not known or kind in known:
        return None
    version = importlib.metadata.version("transformers")
    if config.get("auto_map"):
        return (
            f"a `{kind}` model, which transformers {version} runs only with code from its repo, and hubdpo never does",
            SUPPORTED,
        )
    return (
        f"a `{kind}` model, which transformers {version} does not know as a causal language model",
        f"pip install -U transformers, or {SUPPORTED}",
    )


@functools.cache
def _kinds(task: str) -> frozenset[str]:
    """Return the model types that transformers has for a task, none when its tables are written in another way."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    path = Path(spec.submodule_search_locations[0], TABLES)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    table = re.search(rf"^MODEL_FOR_{task}_MAPPING_NAMES = OrderedDict\(\n(.*?)^\)", text, re.DOTALL | re.MULTILINE)
    return frozenset(ENTRY.findall(table[1])) if table else frozenset()
