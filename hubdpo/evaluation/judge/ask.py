"""Ask a judge many questions in parallel, and keep each verdict as soon as it is there.

A question is asked once: a verdict that was kept, before a kill or by an earlier evaluation, is not asked for again.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import Count, fingerprint
from hubdpo.errors import JudgeError, Stopped
from hubdpo.evaluation.judge.comparison import AGAIN, FRAME, Verdict, read_verdict
from hubdpo.evaluation.judge.server import Judge, Refused, Reply
from hubdpo.evaluation.kept import Kept

VERDICTS_FILE = "verdicts.jsonl"
"""In the folder `evaluation` of a run: what judges said, see `Kept`."""
LONGEST_KEPT = 4_000
"""Characters of a reply that are kept."""


class Said(BaseModel):
    """What a judge said, as it is kept: the verdict, None if it cannot be read; replies; tokens of both sides."""

    verdict: Verdict | None
    replies: Annotated[list[str], Field(min_length=1, max_length=2)]
    tokens: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    is_whole: bool = True


VERDICTS = TypeAdapter(Said)


class Asking(NamedTuple):
    """A question to a judge, and what stands beside its verdict in the file, for readers."""

    key: str
    text: str
    facts: dict[str, Any]


def asking(judge: Judge, text: str, facts: dict[str, Any]) -> Asking:
    """Return a question with the key of its verdict: what it says, and whom it asks."""
    return Asking(fingerprint(["verdict", FRAME, judge.model, judge.served, judge.max_tokens, text]), text, facts)


def ask_all(judge: Judge, questions: Sequence[Asking], kept: Kept, *, requests: int) -> dict[str, Said]:
    """Return what the judge says, by key, without the questions that its server refuses; how many those are is told.

    At most `requests` are asked at the same time. Raise JudgeError when the server does not answer any more, or refuses
    them all; Stopped, at once, for Ctrl-C.
    """
    wanted = {each.key: each for each in questions}
    missing = [wanted[key] for key in wanted if kept.get(key) is None]
    refused = _ask(judge, missing, kept, requests) if missing else []
    if refused:
        sentence = f"{judge.address} refuses {console.counted(len(refused), 'question')}: {refused[0]}"
        if len(refused) == len(questions):
            raise JudgeError(sentence, hint="check `--judge-model`, and how long its context is")
        console.warn(f"{sentence}; the answers are left out, and asked about again by the next evaluation")
    return {key: Said.model_validate(found) for key in wanted if (found := kept.get(key)) is not None}


def _ask(judge: Judge, missing: Sequence[Asking], kept: Kept, requests: int) -> list[str]:
    """Ask, and return why the server refused some. Threads of their own let Ctrl-C end the command at once."""
    todo: queue.SimpleQueue[Asking] = queue.SimpleQueue()
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()
    for each in missing:
        todo.put(each)

    def work() -> None:
        while not stopped.is_set():
            try:
                question = todo.get_nowait()
            except queue.Empty:
                return
            try:
                kept.add({question.key: question.facts | _answer(judge, question.text)})
                done.put(None)
            except BaseException as problem:
                done.put(problem)

    refused: list[str] = []
    asked = 0
    try:
        for _ in range(min(requests, len(missing))):
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(work,), name="judge", daemon=True).start()
        with console.progress("asking the judge", len(missing)) as bar:
            for _ in missing:
                problem = done.get()
                if isinstance(problem, Refused):
                    refused.append(str(problem))
                elif problem is not None:
                    raise problem
                asked += 1
                bar.advance(bar.task_ids[0])
    except KeyboardInterrupt:
        raise Stopped(
            f"run the same command again: it goes on after {asked:,} of {console.counted(len(missing), 'verdict')}"
        ) from None
    finally:
        stopped.set()
    return refused


def _answer(judge: Judge, text: str) -> dict[str, Any]:
    """Ask a question, and once more where the reply has no verdict."""
    chat = [{"role": "user", "content": text}]
    replies: list[Reply] = []
    for _ in range(2):
        reply = judge.ask(chat)
        replies.append(reply)
        verdict = read_verdict(reply.text)
        if verdict is not None:
            break
        said = reply.text[-LONGEST_KEPT:] or "..."
        chat = [chat[0], {"role": "assistant", "content": said}, {"role": "user", "content": AGAIN}]
    counts = [reply.tokens for reply in replies]
    return {
        "judge": judge.model, "served": replies[-1].served, "verdict": verdict,
        "replies": [reply.text[-LONGEST_KEPT:] for reply in replies],
        "tokens": [sum(count) for count in zip(*counts, strict=True)] if None not in counts else None,
        "is_whole": replies[-1].is_whole,
    }  # fmt: skip
