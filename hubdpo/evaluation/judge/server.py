"""Ask a model behind an OpenAI-compatible server, with huggingface_hub's client and our retries and timeouts.

The key is in no text: it is kept as a secret, and taken out of whatever the server says, which may quote it.
"""

from __future__ import annotations

import os
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from pydantic import SecretStr

from hubdpo import console
from hubdpo.artefacts.formats.messages import Message
from hubdpo.console import listed
from hubdpo.errors import ConfigError, JudgeError
from hubdpo.evaluation.judge.hosts import is_private
from hubdpo.hub.failures import first_line, status_of
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import CONNECT_S, asked_elsewhere, http

KEYS = ("HUBDPO_JUDGE_KEY", "OPENAI_API_KEY")
"""Environment variables of the key, the first that is set."""
SHORTEST_SECRET = 4
"""Characters of a key that is taken out of texts: `x` is none, and every other word has it."""
NO_KEY = "none"
"""Sent where there is no key: without one the client would send the token of the Hub to a server that is none."""
ANSWER_S = 600.0
"""Seconds for a verdict, in which a server on a CPU may work through a queue."""
TRIAL_TOKENS = 16
PLACE = "/chat/completions"
TOLD_S = 10.0
"""Seconds in which the same line about a pause is not told again."""
AGAIN = "then run the same command again: verdicts are kept"
MOST_SAID = 300
"""Characters of what a server says of an error that are shown."""
REFUSED = (400, 413, 422)
"""Statuses about one request, such as too long a text."""
ABSENT = (404, 405, 501)
"""Statuses of a path that is not the API, of which some servers have none to post to."""
USUAL = "check `--judge`, whose URL usually ends in /v1"


class Reply(NamedTuple):
    text: str
    served: str | None
    """Name of the model as the server says it."""
    tokens: tuple[int, int] | None
    """Asked and answered, None where the server does not count them."""
    is_whole: bool
    """Whether the model ended it within the tokens that it had."""


class Refused(Exception):
    """The server refuses this one request; the text is what it says."""


class Judge:
    """A model behind a server, whose address and key are checked. Threads may ask together."""

    def __init__(self, url: str, model: str, *, max_tokens: int = 512) -> None:
        """Raise ConfigError for an address that is none, that holds credentials, or that would expose the key."""
        self.address, self.host = _address(url)
        self.model = model
        self.served: str | None = None
        name = next((name for name in KEYS if os.environ.get(name, "").strip()), None)
        self._key = SecretStr(os.environ[name].strip() if name else NO_KEY)
        self._has_key = name is not None
        self.max_tokens = max_tokens
        self._options = _manners(max_tokens)[0]
        self._told: dict[str, float] = {}
        if name is None:
            return
        if not (self._key.get_secret_value().isascii() and self._key.get_secret_value().isprintable()):
            raise ConfigError(f"{name} holds characters that no key has", hint=f"export {name}=...")
        if self.address.startswith("http://") and not is_private(self.host):
            raise ConfigError(
                f"{self.address} is not encrypted, so the key in {name} would travel in clear text",
                hint=f"give an address with https, or `unset {' '.join(KEYS)}` for a server that needs no key",
            )

    def check(self) -> None:
        """Ask for the list of models and for a few words. Raise JudgeError if the server cannot be asked."""
        names = self._models()
        problem: Exception | None = None
        for trial, manner in zip(_manners(TRIAL_TOKENS), _manners(self.max_tokens), strict=True):
            try:
                self.served = self._ask([{"role": "user", "content": "Say: ready"}], trial).served
            except Refused as refusal:  # models that think have other names for the options, and one temperature
                problem = problem or refusal
                continue
            except JudgeError as failure:
                if names and self.model not in names:
                    failure.hint = f"its models are {listed(names, 5)}: give one with `--judge-model`"
                raise
            self._options = manner
            break
        else:
            raise JudgeError(f"{self.address} refuses to be asked: {problem}", hint="check `--judge-model`")
        if names and self.model not in {*names, *map(public_name, names)}:
            console.warn(
                f"{self.address} does not list `{self.model}` ({listed(names)}), but answers"
                + (f" as `{self.served}`" if self.served else "")
            )
        if "temperature" not in self._options:
            console.warn(f"`{self.model}` takes no temperature of 0, so its verdicts may differ another time")

    def ask(self, chat: Sequence[Message]) -> Reply:
        """Return the reply to a chat. Raise Refused for a chat that is refused, JudgeError for a server that fails."""
        return self._ask(chat, self._options)

    def _ask(self, chat: Sequence[Message], options: dict[str, Any]) -> Reply:
        from huggingface_hub import InferenceClient

        def call() -> Any:
            limits = http().Timeout(ANSWER_S, connect=CONNECT_S)
            key = self._key.get_secret_value()
            # a client for each request: it keeps what it reads until it is closed
            client = InferenceClient(base_url=self.address + PLACE, api_key=key, timeout=limits)
            with _in_json(), client:
                return client.chat_completion([dict(message) for message in chat], model=self.model, **options)

        try:
            with asked_elsewhere():
                answer = repeat(call, of=self.address, tell=self._tell)
        except Exception as problem:
            if status_of(problem) in REFUSED:
                raise Refused(self._said(problem)) from None
            raise self._failure(problem) from None
        if (error := getattr(answer, "error", None)) is not None:  # some servers answer 200 whatever happens
            said = error.get("message") if isinstance(error, dict) else error
            raise JudgeError(
                f"{self.address} answers with an error: {self._clean(str(said))}", hint=f"look at it, {AGAIN}"
            )
        return self._reply(answer)

    def _models(self) -> list[str]:
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        def call() -> Any:
            headers = {"authorization": f"Bearer {self._key.get_secret_value()}"}
            response = get_session().get(f"{self.address}/models", headers=headers)
            hf_raise_for_status(response)
            with _in_json():
                return response.json()

        try:
            with asked_elsewhere():
                found = repeat(call, cached=True, of=self.address)
        except Exception as problem:
            if status_of(problem) is None and not isinstance(problem, ValueError):
                raise self._failure(problem) from None
            return []  # asking for a few words will tell
        listed_models = found.get("data") if isinstance(found, dict) else None
        return [self._clean(str(one["id"])) for one in listed_models or [] if isinstance(one, dict) and "id" in one]

    def _tell(self, line: str) -> None:
        """Say once what many threads say at the same time."""
        now = time.monotonic()
        if now > self._told.get(line, 0) + TOLD_S:
            self._told[line] = now
            console.info(line)

    def _failure(self, problem: Exception) -> Exception:
        """Return the error for a request that failed for good; a bug stays what it is."""
        status, address, said = status_of(problem), self.address, self._said(problem)
        if status in (401, 403):
            words, hint = f"{address} does not accept the key: {said}", f"export {KEYS[0]}=..."
        elif status in ABSENT:
            words = f"{address}{PLACE} does not exist, or has no model `{self.model}`: {said}"
            hint = f"{USUAL}, and `--judge-model`"
        elif status == 429:
            words, hint = f"{address} is asked too often", f"use fewer `--judge-requests`, {AGAIN}"
        elif status is not None:
            words, hint = f"{address} answered {status}: {said}", f"look at its log, {AGAIN}"
        elif isinstance(problem, (OSError, http().HTTPError)):  # also when it takes too long
            words = f"no answer from {address} ({type(problem).__name__})"
            hint = f"check that it runs there, or use fewer `--judge-requests`, {AGAIN}"
        elif isinstance(problem, http().InvalidURL) or type(problem) is UnicodeError:  # of IDNA
            return ConfigError(f"`--judge {address}` is no address of a server", hint=USUAL)
        elif isinstance(problem, ValueError):
            words, hint = f"what {address} answers is not JSON as of OpenAI's API", USUAL
        else:
            return problem
        return JudgeError(words, hint=hint)

    def _said(self, problem: Exception) -> str:
        response = getattr(problem, "response", None)
        try:
            text = str(response.text) if response is not None else str(problem)
        except Exception:  # a stream that was not read
            text = first_line(problem)
        return self._clean(text)

    def _reply(self, answer: Any) -> Reply:
        choices = answer.choices if isinstance(answer.choices, list) else []
        message: Any = getattr(choices[0], "message", None) if choices else None
        if not hasattr(message, "content"):
            raise JudgeError(f"what {self.address} answers has no `choices`, as OpenAI's API has", hint=USUAL)
        counts = [getattr(answer.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        are_counts = all(isinstance(count, int) and 0 <= count < 2**40 for count in counts)
        return Reply(
            self._without_key(_text(message.content)),
            self._clean(str(answer.model)) if answer.model else None,
            (counts[0], counts[1]) if are_counts else None,  # type: ignore[arg-type]
            getattr(choices[0], "finish_reason", None) != "length",
        )

    def _clean(self, text: str) -> str:
        """Return a text of the server in one line of some length, without the key."""
        return " ".join(self._without_key(text).split())[:MOST_SAID]

    def _without_key(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()
        key = self._key.get_secret_value()
        is_secret = self._has_key and len(key) >= SHORTEST_SECRET
        return text.replace(key, "[REDACTED]") if is_secret else text


@contextmanager
def _in_json() -> Iterator[None]:
    """Let an answer that is no JSON, such as a web page, be no failure of the network, which is worth another try."""
    try:
        yield
    except JSONDecodeError as problem:
        raise ValueError(problem.msg) from None


def _manners(tokens: int) -> list[dict[str, Any]]:
    """Return the options of a request in the three ways that servers know."""
    newer = {"extra_body": {"max_completion_tokens": tokens}}
    return [{"temperature": 0.0, "max_tokens": tokens}, {"temperature": 0.0, **newer}, newer]


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _address(url: str) -> tuple[str, str]:
    hint = "--judge http://127.0.0.1:8000/v1"
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("`--judge` is not a URL", hint=hint) from None
    if "@" in parts.netloc or parts.query or parts.fragment:  # the URL is not shown
        raise ConfigError(
            "`--judge` holds more than an address: a name or key, or what follows `?` or `#`",
            hint=f"export {KEYS[0]}=..., and give the address up to `/v1`",
        )
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"`--judge {url}` is no address of a server", hint=hint)
    path = parts.path.rstrip("/").removesuffix(PLACE).rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}", host


def public_name(name: str) -> str:
    """Return the last part of a path, whose folders are nobody's business."""
    path = PureWindowsPath(name)
    return path.name if path.root or path.drive or name.startswith(("~", ".")) else name
