"""The one door to chat templates of others: every chat is rendered here, within limits of time, memory and length.

Jinja has no limit of its own, and a template may loop or grow for one chat alone. So it is the real rendering that is
bounded, Jinja's compiling included, and never what comes after it: tokenizers and CUDA end badly without memory.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hubdpo.errors import ArtefactError, HubdpoError

SECONDS, MEGABYTES = 10, 512
"""What the rendering of one chat may take: of the processor, which counts fairly on a busy machine, and of memory."""
SECONDS_IN_C = 30
"""Where one operation of C does not end, and lets no handler of Python run, the kernel ends this process (SIGXCPU)."""
MOST_CHARACTERS = 1_000_000
"""Of a rendered chat beyond what is said in it."""
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
"""What every template is tried on before any work."""
T = TypeVar("T")
_STATM = "/proc/self/statm"
_ALONE = threading.RLock()
"""Held while a limit of the whole process is lower: of two threads, each would restore the limit of the other."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_ALONE.acquire, after_in_parent=_ALONE.release, after_in_child=_ALONE.release)


class _OutOfTime(BaseException):
    """No Exception, which Jinja and transformers would take for one of the template's."""


def rendered(
    tokenizer: Any,
    chat: Sequence[Mapping[str, Any]],
    *,
    ask: bool,
    error: type[HubdpoError] = ArtefactError,
    **options: Any,
) -> str:
    """Return the text of a chat, as `apply_chat_template` gives it; with `ask`, the assistant goes on with it.

    Raise `error` when that is beyond a limit, and whatever the template raises to refuse the chat.
    """

    def call() -> str:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask, **options))

    text = bounded(call, tokenizer, error)
    if len(text) > MOST_CHARACTERS:
        most, where = MOST_CHARACTERS + 20 * sum(len(str(turn)) for turn in chat), template_of(tokenizer)
        if len(text) > most:
            made = f"{where} makes {len(text):,} characters of a chat"
            raise error(f"{made}, and at most {most:,} are taken", hint=_hint(where))
    return text


def bounded(call: Callable[[], T], tokenizer: Any, error: type[HubdpoError]) -> T:
    """Return what `call` does with the chat template of a tokenizer: whatever has Jinja compile it folds constants.

    Raise `error` when that is beyond a limit.
    """
    try:
        with _ALONE:
            return _within_limits(call)
    except _OutOfTime:
        beyond = f"{SECONDS} seconds"
    except MemoryError:
        beyond = f"{MEGABYTES} MB"
    except RecursionError:
        beyond = "the depth that Python nests to"
    where = template_of(tokenizer)  # raised here, where nothing holds what filled the memory
    raise error(f"{where} is refused: rendering a chat with it takes more than {beyond}", hint=_hint(where))


def encoded(tokenizer: Any, chat: Sequence[Mapping[str, Any]], *, error: type[HubdpoError] = ArtefactError) -> Any:
    """Return what a model takes of a chat that the assistant goes on with: tensors of shape [1, tokens].

    Raise `error` as `rendered` does, and when the template writes nothing.
    """
    inputs = tokenizer(rendered(tokenizer, chat, ask=True, error=error), add_special_tokens=False, return_tensors="pt")
    if not inputs["input_ids"].numel():
        where = template_of(tokenizer)
        raise error(f"{where} writes nothing of a chat", hint=_hint(where))
    return inputs


def check_template(tokenizer: Any, template: str, error: type[HubdpoError]) -> None:
    """Render CHATS with a template. Raise `error` when one is beyond a limit; a chat that it refuses is let pass."""
    for chat in CHATS:
        try:
            rendered(tokenizer, chat, ask=chat[-1]["role"] == "user", error=error, chat_template=template)
        except HubdpoError:
            raise
        except Exception:  # told when a chat of the work is refused
            continue


def template_of(tokenizer: Any) -> str:
    """Say where the chat template of a tokenizer is."""
    from hubdpo.hub.client import called

    folder = Path(tokenizer.name_or_path)
    own = folder / "chat_template.jinja"
    name = own.name if own.exists() else "`chat_template` in tokenizer_config.json"
    return f"{name} of `{called(folder)}`"


def _hint(where: str) -> str:
    return f"mend {where.partition(' of ')[0]}, or tell whoever made it"


def _within_limits(call: Callable[[], T]) -> T:
    try:
        import resource
    except ImportError:  # Windows, which has the limit of time alone
        return _in_time(call)
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
    """Return the bytes of this process's address space; None where the system does not tell."""
    try:
        file = os.open(_STATM, os.O_RDONLY)
    except OSError:
        return None
    try:
        return int(os.read(file, 32).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(file)


def _in_time(call: Callable[[], T]) -> T:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return _watched(call)
    running = True

    def stop(*_: Any) -> None:
        if running:
            raise _OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    timer = signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)  # again each second: a destructor swallows what it raises
    try:
        return call()
    finally:
        running = False
        signal.setitimer(signal.ITIMER_PROF, *timer)
        signal.signal(signal.SIGPROF, signal.SIG_DFL if before is None else before)


def _watched(call: Callable[[], T]) -> T:
    """Call in a thread to which no signal comes: another one watches the time and raises in it."""
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
            raise_in(thread, None)  # whatever has not come by now
