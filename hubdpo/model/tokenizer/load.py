"""Load the tokenizer of a folder without running any of its code, and try its chat template within limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.artefacts.folders.model_files import CONFIG, OTHER_TOKENIZER_FILES, TOKENIZER_FILES
from hubdpo.errors import HubdpoError, UnsupportedBase
from hubdpo.hub.client import called
from hubdpo.model.tokenizer.chat_template import templates_of, with_template_kwargs
from hubdpo.model.tokenizer.check import check_tokenizer_growth
from hubdpo.model.tokenizer.rendering import bounded, check_template
from hubdpo.model.untrusted import AGAIN, check_counts, check_files, one_line_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ_FILES = (
    *TOKENIZER_FILES, *OTHER_TOKENIZER_FILES, CONFIG, "processor_config.json", "preprocessor_config.json",
)  # fmt: skip
"""Files that transformers may read to make a tokenizer."""


def read_tokenizer(
    folder: Path, template_kwargs: Mapping[str, object] | None = None, *, error: type[HubdpoError] = UnsupportedBase
) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder, with `template_kwargs` as the defaults of its chat template.

    Raise `error` when the files make no tokenizer, ask to run code, or have a chat template beyond a limit; ConfigError
    for a default that the template does not read.
    """
    from transformers import AutoTokenizer

    check_files(folder, READ_FILES, error)
    if not isinstance(template_kwargs or {}, Mapping):
        raise error(f"`chat_template_kwargs` of `{called(folder)}` is not an object", hint=AGAIN)
    with one_line_errors(folder, "the tokenizer", error):
        check_counts(folder)
        check_tokenizer_growth(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if not isinstance(longest := tokenizer.model_max_length, (int, float)):
            raise ValueError(
                f"`model_max_length` of tokenizer_config.json is {repr(longest)[:80]}, and it must be a number"
            )
        if not all(isinstance(template, str) for template in templates_of(tokenizer).values()):
            raise TypeError("its chat template is not text")
    _check_templates(tokenizer, error)
    if template_kwargs:
        tokenizer = bounded(lambda: with_template_kwargs(tokenizer, template_kwargs, called(folder)), tokenizer, error)
        _check_templates(tokenizer, error)
    return tokenizer


def _check_templates(tokenizer: PreTrainedTokenizerBase, error: type[HubdpoError]) -> None:
    for template in templates_of(tokenizer).values():
        check_template(tokenizer, template, error)
