"""Keep transformers' progress bars and warnings from between the lines that hubdpo prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide bars and warnings in the body, and restore both settings after it. A verbosity other than the default stays.

    Not transformers' `disable_progress_bar`: it also turns off the bars of huggingface_hub.
    """
    from transformers.utils import logging

    bars, verbosity = logging.set_tqdm_hook(_hidden), logging.get_verbosity()
    if verbosity == logging.WARNING:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_tqdm_hook(bars)
        logging.set_verbosity(verbosity)


def _hidden(bar: Callable[..., object], arguments: Sequence[object], options: Mapping[str, object]) -> object:
    return bar(*arguments, **{**options, "disable": True})
