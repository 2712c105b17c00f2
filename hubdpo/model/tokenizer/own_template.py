"""Give a tokenizer another chat template than its own, from a file or from the formats that come with hubdpo.

No token is added to a vocabulary. Where the tag that ends a turn in a format is no token of the base, answers end with
the base's own end of text, at which generation stops.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.artefacts.folders.model_files import CHAT_TEMPLATE, TOKENIZER_CONFIG
from hubdpo.artefacts.manifests.manifest import write_atomic
from hubdpo.config.chat_template import NAMES, source_of
from hubdpo.model.tokenizer.chat_template import templates_of
from hubdpo.model.tokenizer.rendering import DATE
from hubdpo.model.untrusted import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_END = re.compile(r"\{%- set end = '(.+?)' %\}")
_TAG = re.compile(r"<\|[A-Za-z_]+\|>|<(?:start|end)_of_turn>")


def template_for(value: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the source of a `--chat-template` for a tokenizer."""
    source = source_of(value)
    end = _END.search(source)
    if value in NAMES and end is not None and tokenizer.eos_token and end[1] not in tokenizer.get_added_vocab():
        source = source.replace(end[0], "{%- set end = eos_token %}")
    return source


def write_template(source: str, folder: Path) -> None:
    """Make a template that of a folder with tokenizer files, for every program that reads either place."""
    write_atomic(folder / CHAT_TEMPLATE, source)
    if (folder / TOKENIZER_CONFIG).exists():
        settings = {**read_json(folder / TOKENIZER_CONFIG), "chat_template": source}
        write_atomic(folder / TOKENIZER_CONFIG, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def place_of_own(folder: Path) -> str:
    """Return words that another template stands in place of a base's own, none where it has none."""
    has_own = (folder / CHAT_TEMPLATE).exists() or (
        (folder / TOKENIZER_CONFIG).exists() and read_json(folder / TOKENIZER_CONFIG).get("chat_template")
    )
    return ", in place of the base's own" if has_own else ""


def remarks_on(tokenizer: PreTrainedTokenizerBase, end_of_turn: object) -> list[str]:
    """Return a sentence for each thing about a chat template that a run should know.

    `end_of_turn` is what ends an answer, None where no token does.
    """
    template, remarks = "\n".join(templates_of(tokenizer).values()), []
    if tags := sorted(set(_TAG.findall(template)) - tokenizer.get_added_vocab().keys()):
        some = ", ".join(f"`{tag}`" for tag in tags)
        remarks.append(f"{some} of the chat template are no tokens of this base, and are written as text")
    if end_of_turn is None:
        remarks.append(
            "the chat template ends an answer with no token at which generation could stop; one that writes "
            "`{{ eos_token }}` there teaches the adapter to stop"
        )
    if "strftime_now" in template:
        remarks.append(f"the chat template writes the date, here {DATE:%d %b %Y}, so that runs can be repeated")
    return remarks
