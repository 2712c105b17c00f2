"""Render chat templates that others wrote within limits of time, memory and length: every chat is rendered here.

Jinja has no limits, and a template may loop or grow for one chat alone. So the real rendering is limited, Jinja's
compiling included. Nothing after it is: tokenizers and CUDA crash when they run out of memory.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hubdpo.errors import ArtefactError, HubdpoError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

SECONDS, MEGABYTES = 10, 512
"""Limits of rendering one chat: CPU time, which a busy machine does not change, and memory on top of what is in use."""
SECONDS_IN_C = 30
"""CPU time after which the kernel ends this process (SIGXCPU): a single operation in C lets no Python handler run."""
MOST_CHARACTERS = 1_000_000
"""Characters of a rendered chat on top of 20 times its messages."""
CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "what is it?"}],
    [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "It is 名 1."}],
    [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "what is it?"},
        {"role": "assistant", "content": "It is 名 1."},
        {"role": "user", "content": "And then?"},
    ],
]
"""Chats on which every template is tried before any work."""
DATE = date(2024, 7, 26)
"""What templates that ask for the date of today get: the ids of a chat must not change from day to day. It is the day
that Llama 3.2's template has by itself."""
_NOW = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>[^"']*)(?P=quote)\s*\)""")
T = TypeVar("T")
_STATM = "/proc/self/statm"
_ALONE = threading.RLock()
"""Held while a limit of the whole process is lowered: two threads would restore each other's limits."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_ALONE.acquire, after_in_parent=_ALONE.release, after_in_child=_ALONE.release)


class _OutOfTime(BaseException):
    """Raised in the middle of a rendering. Jinja and transformers would handle an Exception as the template's own."""


def rendered(
    tokenizer: PreTrainedTokenizerBase,
    chat: Sequence[Mapping[str, object]],
    *,
    ask: bool,
    error: type[HubdpoError] = ArtefactError,
    fixed_date: bool = True,
    **options: Any,
) -> str:
    """Return the text of a chat, as `apply_chat_template` gives it; with `ask` it ends where the assistant answers.

    A template that asks for the date gets DATE, or with `fixed_date` False that of today, as in other programs.
    Raise `error` when the rendering is beyond a limit, and whatever the template raises to refuse the chat.
    """

    if fixed_date and "strftime_now" in str(options.get("chat_template") or getattr(tokenizer, "chat_template", "")):
        template = tokenizer.get_chat_template(options.get("chat_template"), options.get("tools"))
        options["chat_template"] = _NOW.sub(lambda call: repr(DATE.strftime(call["format"])), template)

    def call() -> str:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask, **options))

    text = bounded(call, tokenizer, error)
    if len(text) > MOST_CHARACTERS:
        most, where = MOST_CHARACTERS + 20 * sum(len(str(message)) for message in chat), template_of(tokenizer)
        if len(text) > most:
            makes = f"{where} makes {len(text):,} characters of a chat"
            raise error(f"{makes}, and at most {most:,} are taken", hint=_hint(where))
    return text


def bounded(call: Callable[[], T], tokenizer: PreTrainedTokenizerBase, error: type[HubdpoError]) -> T:
    """Return the result of `call`, which lets Jinja compile the chat template of a tokenizer or render with it.

    Compiling is limited too, because Jinja evaluates constant expressions then. Raise `error` beyond a limit.
    """
    try:
        with _ALONE:
            return _within_limits(call)
    except _OutOfTime:
        limit = f"{SECONDS} seconds"
    except MemoryError:
        limit = f"{MEGABYTES} MB"
    except RecursionError:
        limit = "the depth to which Python nests"
    # outside of `except`, whose traceback keeps alive the objects that filled the memory
    where = template_of(tokenizer)
    raise error(f"{where} is refused: rendering a chat with it takes more than {limit}", hint=_hint(where))


def encoded(
    tokenizer: PreTrainedTokenizerBase, chat: Sequence[Mapping[str, object]], *,
    error: type[HubdpoError] = ArtefactError,
) -> BatchEncoding:  # fmt: skip
    """Return the tensors, shaped (1, tokens), of a chat to answer. Raise `error` when it renders as nothing, too."""
    inputs = tokenizer(rendered(tokenizer, chat, ask=True, error=error), add_special_tokens=False, return_tensors="pt")
    if not inputs["input_ids"].numel():
        where = template_of(tokenizer)
        raise error(f"{where} renders a chat as empty text", hint=_hint(where))
    return inputs


def check_template(tokenizer: PreTrainedTokenizerBase, template: str, error: type[HubdpoError]) -> None:
    """Render CHATS with a template. Raise `error` when one is beyond a limit; a template may refuse a chat."""
    dates = (True, False) if "strftime_now" in template else (True,)
    for chat, fixed_date in itertools.product(CHATS, dates):
        try:
            rendered(
                tokenizer, chat, ask=chat[-1]["role"] == "user", error=error, fixed_date=fixed_date,
                chat_template=template,
            )  # fmt: skip
        except HubdpoError:
            raise
        except Exception:  # reported when it happens to a chat of the data
            continue


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return words for where the chat template of a tokenizer is: the file and its repo or folder."""
    from hubdpo.hub.client import called

    folder = Path(tokenizer.name_or_path)
    own_file = folder / "chat_template.jinja"
    name = own_file.name if own_file.exists() else "`chat_template` in tokenizer_config.json"
    return f"{name} of `{called(folder)}`"


def _hint(where: str) -> str:
    return f"correct {where.partition(' of ')[0]}, or tell its owner"


def _within_limits(call: Callable[[], T]) -> T:
    """Call with lowered limits of this process (CPU time, address space) and restore them, whatever happens."""
    try:
        import resource
    except ImportError:  # Windows has only the limit of time
        return _in_time(call)
    # RLIMIT_CPU counts from the start of the process, RLIMIT_AS everything that it has mapped: both are set relative to
    # what is used now. A limit that is lower already, such as one of `ulimit -v`, stays.
    limits = [(resource.RLIMIT_CPU, int(time.process_time()) + SECONDS_IN_C)]
    if (size := _virtual_size()) is not None:
        limits.append((resource.RLIMIT_AS, size + (MEGABYTES << 20)))
    before = [(kind, resource.getrlimit(kind)) for kind, _ in limits]
    try:
        for (kind, most), (_, (soft, hard)) in zip(limits, before, strict=True):
            if soft == resource.RLIM_INFINITY or soft > most:
                with suppress(ValueError, OSError):  # beyond a hard limit, or unknown to this system
                    resource.setrlimit(kind, (most, hard))
        return _in_time(call)
    finally:
        for kind, limit in before:
            with suppress(ValueError, OSError):
                resource.setrlimit(kind, limit)


def _virtual_size() -> int | None:
    """Return the bytes of this process's address space, None on a system without `/proc`."""
    try:
        file = os.open(_STATM, os.O_RDONLY)
    except OSError:
        return None
    try:
        return int(os.read(file, 32).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(file)


def _in_time(call: Callable[[], T]) -> T:
    """Call with a timer of CPU time whose signal raises _OutOfTime, where signals reach: in the main thread."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return _watched(call)
    running = True  # the signal may arrive between the end of the call and the end of the timer

    def stop(*_: object) -> None:
        if running:
            raise _OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    timer = signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)  # and each second after: destructors swallow errors
    try:
        return call()
    finally:
        running = False
        signal.setitimer(signal.ITIMER_PROF, *timer)
        signal.signal(signal.SIGPROF, signal.SIG_DFL if before is None else before)


def _watched(call: Callable[[], T]) -> T:
    """Call in a thread that gets no signals: a second thread watches the CPU time and raises _OutOfTime in this one."""
    # an asynchronous error arrives between two bytecodes of that thread; the lock keeps it from arriving after the call
    thread, began = ctypes.c_ulong(threading.get_ident()), time.process_time()
    done, lock = threading.Event(), threading.Lock()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        while not done.wait(0.5):
            if time.process_time() - began > SECONDS:
                with lock:
                    if not done.is_set():
                        raise_in(thread, ctypes.py_object(_OutOfTime))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return call()
    finally:
        with lock:
            done.set()
            raise_in(thread, None)  # withdraw an error that has not been raised by now
