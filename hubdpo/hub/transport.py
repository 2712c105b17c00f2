"""How hubdpo reaches the Hub: its address, the HTTP library and the bars of huggingface_hub, timeouts and attempts."""

from __future__ import annotations

import functools
import importlib
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hubdpo.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PUBLIC_HUB = "https://huggingface.co"
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
CONNECT_S, READ_S, WRITE_S = 10.0, 60.0, 300.0
GET_S = 20.0
"""Seconds for the answer to a GET or HEAD request; a commit of many files takes the Hub longer."""
READS = ("GET", "HEAD")
FAILED = (408, 429, 500, 502, 503, 504)
"""Statuses after which huggingface_hub repeats a request."""
MAX_RETRY_AFTER_S = 310.0
"""The Hub counts requests in windows of five minutes, so a longer pause is not for a command to wait through."""
_unrepeated: ContextVar[bool] = ContextVar("unrepeated", default=False)
_elsewhere: ContextVar[bool] = ContextVar("elsewhere", default=False)
_calls: list[None] = []
"""An entry for each call of hubdpo in progress: the threads of an upload do not have the context of the call."""


def hub_address() -> str:
    """Return the address of the Hub: `HF_ENDPOINT` as it is set now, or the public Hub."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)).rstrip("/")


def endpoint() -> str:
    """Return the address of the Hub. Raise HubError for plain http to another machine, which would expose the token."""
    address = hub_address()
    url = urllib.parse.urlsplit(address)
    if "://" not in address:
        raise HubError(f"HF_ENDPOINT is no address: {address}", hint=f"export HF_ENDPOINT=http://{address}")
    if url.scheme != "https" and url.hostname not in THIS_MACHINE:
        raise HubError(
            f"the endpoint is not encrypted, so the token would travel in clear text: {address}",
            hint="export HF_ENDPOINT=https://...",
        )
    return address


def api() -> HfApi:
    """Return a client of the Hub at `endpoint()`. It reads the token at each request, and its requests time out."""
    address = endpoint()
    from huggingface_hub import HfApi

    _limit_requests()
    return HfApi(endpoint=address, library_name="hubdpo")


@functools.cache
def download_bars() -> type[Any] | None:
    """Return the class of a download's progress bars: hidden ones, unless `HF_HUB_DISABLE_PROGRESS_BARS=0` is set."""
    from huggingface_hub import constants
    from huggingface_hub.utils import tqdm

    class Hidden(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return None if constants.HF_HUB_DISABLE_PROGRESS_BARS is False else Hidden


@contextmanager
def without_upload_bars() -> Iterator[None]:
    """Hide progress bars in the body, which an upload draws in its own way, under the same condition."""
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    # `enable_progress_bars` would forget the groups that were disabled one by one
    states = importlib.import_module("huggingface_hub.utils.tqdm").progress_bar_states
    before = dict(states)
    disable_progress_bars()
    try:
        yield
    finally:
        states.clear()
        states.update(before)


@functools.cache
def http() -> Any:
    """Return the HTTP library that huggingface_hub itself imports: httpx2 from version 2 on, httpx before.

    Both may be installed, and only that library's errors are raised. The module is untyped because httpx and httpx2
    define different types with the same names.
    """
    from huggingface_hub import errors

    return importlib.import_module(errors.HTTPError.__module__.partition(".")[0])


class _Failed(Exception):
    """A failed request. Its cause, which is what to handle, would make huggingface_hub wait and repeat the request."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the retry delay in seconds that a response asks for, or None.

    The Hub sends `RateLimit: "api";r=0;t=55` when no requests are left for 55 seconds; proxies send `Retry-After: 55`.
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds + 1)  # the Hub rounds the seconds down
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None


@contextmanager
def unrepeated() -> Iterator[None]:
    """Let huggingface_hub send GET and HEAD requests of the body, in this thread, once, and make no pause for a 429.

    It says nothing of its own attempts, which take 23 seconds and more, nor of pauses as long as the Hub asks for.
    """
    token = _unrepeated.set(True)
    calls = [] if _elsewhere.get() else _calls
    calls.append(None)
    try:
        yield
    except _Failed as problem:
        assert isinstance(problem.__cause__, Exception)
        raise problem.__cause__ from None
    finally:
        calls.pop()
        _unrepeated.reset(token)


@contextmanager
def asked_elsewhere() -> Iterator[None]:
    """Let the client of huggingface_hub ask another server than the Hub in the body, in this thread.

    Offline mode is about the Hub, and does not hold there; timeouts do.
    """
    _limit_requests()
    token = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(token)


@functools.cache
def _limit_requests() -> None:
    """Set timeouts on all requests of huggingface_hub in this process. By default some of them wait forever."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import hf_raise_for_status
    from huggingface_hub.utils._http import hf_request_event_hook

    def limit(request: Any) -> None:
        # set per request: huggingface_hub passes `timeout=None` for refs and trees, which overrides the client's own
        read = min(READ_S, GET_S) if request.method in READS else READ_S
        limits = http().Timeout(read, connect=CONNECT_S, write=WRITE_S).as_dict()
        requested = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {name: requested.get(name) or limit for name, limit in limits.items()}

    def of_hub(request: Any) -> None:
        if not _elsewhere.get():
            hf_request_event_hook(request)

    class Client(http().Client):  # type: ignore[misc]
        def send(self, request: Any, **options: Any) -> Any:
            is_once = _unrepeated.get()
            is_read = is_once and request.method in READS
            try:
                response = super().send(request, **options)
                status, asked = response.status_code, retry_after(response.headers) or 0
                is_too_long = bool(_calls) and asked > MAX_RETRY_AFTER_S
                if (is_read and status in FAILED) or (status == 429 and (is_once or is_too_long)):
                    response.read()
                    hf_raise_for_status(response)
            except (http().TransportError, HfHubHTTPError) as problem:
                if is_read:
                    raise _Failed from problem
                raise
            return response

    def client() -> Any:
        hooks = {"request": [of_hub, limit]}
        return Client(event_hooks=hooks, follow_redirects=True, timeout=None)

    set_client_factory(client)
