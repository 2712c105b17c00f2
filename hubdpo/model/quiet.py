"""Keep what libraries print from between the lines of hubdpo."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from hubdpo import console


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hide transformers' bars and warnings, deprecations, bitsandbytes' warnings, and what PEFT corrects by itself.

    All of it is restored after the body.

    A verbosity of transformers other than the default stays. Not its `disable_progress_bar`: it also turns off the bars
    of huggingface_hub.
    """
    from transformers.utils import logging as of_transformers

    bars = of_transformers.set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    verbosity = of_transformers.get_verbosity()
    if verbosity == of_transformers.WARNING:
        of_transformers.set_verbosity_error()
    bitsandbytes = logging.getLogger("bitsandbytes")
    level = bitsandbytes.level
    if level == logging.NOTSET:
        bitsandbytes.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            console.ignore_deprecations()
            # in NF4, GPT-2 has linear layers in place of its own kind; PEFT follows the base that is there
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            yield
    finally:
        of_transformers.set_tqdm_hook(bars)
        of_transformers.set_verbosity(verbosity)
        bitsandbytes.setLevel(level)
