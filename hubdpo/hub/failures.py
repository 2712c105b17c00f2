"""Translate the errors of the Hub, the network and their libraries: one line, and what to type next."""

from __future__ import annotations

import errno
import math
import os
import re
import socket
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from typing import TYPE_CHECKING

from hubdpo.artefacts.folders.named import ANY, near_folder
from hubdpo.errors import HubdpoError, HubError, MachineError, NoSuchRevision
from hubdpo.hub.absent import log_in, near_revision, not_there, not_yours, token
from hubdpo.hub.reference import RepoType, type_option
from hubdpo.hub.transport import THIS_MACHINE, http, hub_address, retry_after
from hubdpo.machine.refusals import AGAIN, DISK_FAILURE, QUOTED_ANSWER, machine_error

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

HUB_LIBRARIES = {"huggingface_hub", "hf_xet"}
HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
"""Libraries whose errors, whatever their class, are about the Hub or the network."""
OUR_MISTAKES = frozenset({
    # the library was called wrongly
    "StrictDataclassError", "DryRunError", "StreamError", "StreamConsumedError", "UnrewindableBodyError",
    "CookieConflict",
    # parts of huggingface_hub that hubdpo never calls for the Hub: inference (a judge's errors are evaluation/judge's
    # own), DDUF files, sandboxes and the `hf` command
    "InferenceTimeoutError", "InferenceEndpointError", "TextGenerationError", "DDUFError", "SandboxError", "CLIError",
})  # fmt: skip
"""Errors, and classes derived from them, that only a bug of hubdpo can cause. They keep their traceback."""
REFUSED = re.compile(rf"\[Errno {errno.ECONNREFUSED}\]")
UNKNOWN_NAME = re.compile(rf"\[Errno ({socket.EAI_NONAME}|{getattr(socket, 'EAI_NODATA', socket.EAI_NONAME)})\]")
"""How Python writes that no server listens at an address, and that a name has none; HTTP libraries keep the text."""
TLS_FAULT = re.compile(
    r"\[SSL: (?:WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST|PACKET_LENGTH_TOO_LONG)\]"
    r"|\[SSL: CERTIFICATE_VERIFY_FAILED\] (?:certificate verify failed: )?([^(]*)"
)
"""How OpenSSL says that a server does not speak https, or why its certificate is not one to trust."""
CHECK_NETWORK = f"check the network and HF_ENDPOINT, then {AGAIN}"


def is_offline() -> bool:
    """Tell whether offline mode is on: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set."""
    from huggingface_hub import is_offline_mode

    return bool(is_offline_mode())


def require_online(what: str) -> None:
    """Raise HubError in offline mode. `what` is the subject of the message, such as a command."""
    if is_offline():
        raise HubError(f"{what} must ask the Hub, and offline mode is on", hint="export HF_HUB_OFFLINE=0")


def require_login() -> None:
    """Raise the client's own error when there is no token, before any request is sent."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    if token() is None:
        raise LocalTokenNotFoundError("no token")


def status_of(problem: BaseException) -> int | None:
    """Return the HTTP status behind a client error, or None without a response. hf_xet has it in the error text."""
    response = getattr(problem, "response", None)
    if response is None and (found := QUOTED_ANSWER.search(str(problem))) and found[1]:
        return int(found[1])
    return getattr(response, "status_code", None)


def is_unknown_outcome(problem: BaseException) -> bool:
    """Tell whether a write may have happened: no readable response came, or the server failed or was busy."""
    from huggingface_hub import errors

    if isinstance(problem, PermissionError) or machine_error(problem) is not None:  # a second attempt would fail alike
        return False
    if TLS_FAULT.search(str(problem)):
        return False
    if isinstance(problem, JSONDecodeError):  # a proxy answered in place of the Hub
        return True
    # huggingface_hub wraps errors of uploads and downloads
    if isinstance(problem, (RuntimeError, errors.LocalEntryNotFoundError)) and problem.__cause__:
        return is_unknown_outcome(problem.__cause__)
    nothing_sent = (errors.OfflineModeIsEnabled, errors.LocalTokenNotFoundError, errors.LocalEntryNotFoundError)
    if isinstance(problem, nothing_sent):
        return False
    return isinstance(problem, (http().TransportError, OSError)) and status_of(problem) in (
        None, 408, 429, 500, 502, 503, 504,
    )  # fmt: skip


def is_unreachable(problem: BaseException) -> bool:
    """Tell whether the Hub gave no answer of its own, is down or too busy. A proxy that refuses does not count."""
    if isinstance(problem, http().TransportError):
        return not isinstance(problem, http().ProxyError)
    status = status_of(problem) or 0
    return status == 429 or status >= 500 or isinstance(problem, JSONDecodeError)


def nothing_listens(problem: BaseException) -> bool:
    """Tell whether a connection to this machine was refused: no server has been started there."""
    return _said_in(problem, REFUSED) is not None and _host(problem) in THIS_MACHINE


def is_unknown_name(problem: BaseException) -> bool:
    """Tell whether the host has a name that leads nowhere; a name server that does not answer for now is none."""
    return _said_in(problem, UNKNOWN_NAME) is not None


def _said_in(problem: BaseException, pattern: re.Pattern[str]) -> re.Match[str] | None:
    """Find a pattern in the text of an error, or of a cause of it."""
    found = pattern.search(str(problem))
    return _said_in(problem.__cause__, pattern) if found is None and problem.__cause__ else found


def _host(problem: BaseException) -> str | None:
    url = getattr(getattr(problem, "_request", None), "url", None) or hub_address()
    return urllib.parse.urlsplit(str(url)).hostname


def asked_pause(problem: BaseException | None) -> float | None:
    """Return the seconds to wait before the next request that the response behind an error asks for, or None."""
    response = getattr(problem, "response", None)
    return retry_after(response.headers) if response is not None else None


def in_words(problem: BaseException) -> str:
    """Say in a few words what the Hub did instead of answering; its address is the subject."""
    problem = problem.__cause__ or problem
    if (status := status_of(problem)) is not None:
        return f"answered {status}"
    if isinstance(problem, JSONDecodeError):
        return "answered something that is not JSON"
    if isinstance(problem, http().TransportError) or not str(problem):
        return f"does not answer ({type(problem).__name__})"
    return f"cannot be reached ({first_line(problem)[:80]})"


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Raise HubError, with a hint, for errors of the Hub or the network, and MachineError for errors of this machine.

    `what` names the repo or file in the message; the login has no name.
    """
    try:
        yield
    except Exception as problem:
        if (translated := as_hub_error(what, problem)) is None:
            raise
        raise translated from None


class OtherType(HubError):
    """The Hub has a repo of this name, and it is of the other type."""


class NotCached(NoSuchRevision):
    """The cache, which alone could be asked, does not have it."""


@contextmanager
def no_folder(ref: str, wanted: Sequence[str] = ANY) -> Iterator[None]:
    """Add to a HubError that there is no folder `ref` either: a name with one slash may mean a folder or a repo.

    Its hint is a folder of nearly that name, of a kind that is `wanted`, where there is one. A repo that is there was
    meant.
    """
    try:
        yield
    except HubError as problem:
        if isinstance(problem, (OtherType, NoSuchRevision)) and not isinstance(problem, NotCached):
            raise
        message = f"{problem.message}; and there is no folder `{ref}` here"
        raise type(problem)(message, hint=near_folder(ref, wanted) or problem.instead or problem.hint) from None


def as_hub_error(what: str, problem: BaseException) -> HubdpoError | None:
    """Return the error to show the user: HubError or MachineError, or None for a bug, which keeps its traceback."""
    from huggingface_hub import errors

    if not isinstance(problem, HubdpoError) and (refusal := machine_error(problem)) is not None:
        return MachineError(f"files of `{what}`: {refusal.message}", hint=refusal.hint)
    kinds = type(problem).__mro__
    if OUR_MISTAKES.intersection(kind.__name__ for kind in kinds):
        return None
    if isinstance(problem, RuntimeError) and problem.__cause__:  # huggingface_hub wraps errors of uploads
        return as_hub_error(what, problem.__cause__)
    if isinstance(problem, (errors.LocalTokenNotFoundError, errors.DeviceCodeError, errors.OIDCError)):
        reason = "" if isinstance(problem, errors.LocalTokenNotFoundError) else f": {first_line(problem)}"
        return HubError(f"you are not logged in to {hub_address()}{reason}", hint="hf auth login")
    if nothing_listens(problem):
        address = urllib.parse.urlsplit(hub_address())
        return HubError(
            f"no answer{_about(what)}: no server runs at {hub_address()}, where HF_ENDPOINT points",
            hint=f"hubdpo serve-hub hub --port {address.port or 80}",
        )
    if (fault := _said_in(problem, TLS_FAULT)) is not None:
        return _tls_fault(fault)
    if is_unknown_name(problem):
        nowhere = f"no answer{_about(what)}: there is no host `{_host(problem)}`, or this machine has no network"
        step = "unset HF_ENDPOINT" if os.environ.get("HF_ENDPOINT") else "check the network"
        return HubError(nowhere, hint=f"{step}, then {AGAIN}")
    if isinstance(problem, errors.OfflineModeIsEnabled):
        return HubError(f"`{what}` must be asked of the Hub, and offline mode is on", hint="export HF_HUB_OFFLINE=0")
    if isinstance(problem, errors.LocalEntryNotFoundError):
        cause = f": {type(problem.__cause__).__name__}" if problem.__cause__ else ""
        return HubError(f"`{what}` cannot be downloaded from {hub_address()}{cause}", hint=CHECK_NETWORK)
    if isinstance(problem, (errors.HFValidationError, errors.HfUriError)):
        return HubError(f"`{what}` is no name on the Hub: {first_line(problem)}", hint="write USER/NAME")
    if isinstance(problem, (errors.SafetensorsParsingError, errors.NotASafetensorsRepoError)):
        return HubError(f"`{what}` has no safetensors that can be read: {first_line(problem)}", hint="tell its owner")
    if isinstance(problem, JSONDecodeError):
        return HubError(
            f"what {hub_address()} answered{_about(what)} is not JSON",
            hint="check HF_ENDPOINT, and whether a proxy stands between",
        )
    if isinstance(problem, errors.EntryNotFoundError):
        return HubError(f"`{what}` lacks a file: {first_line(problem)}", hint="check the revision")
    if status_of(problem) is not None or QUOTED_ANSWER.search(str(problem)):  # git-lfs's batch call quotes no status
        return _refused(what, problem)
    if isinstance(problem, (ConnectionError, errors.XetDownloadError)):
        return HubError(
            f"large files of `{what}` cannot be sent or read: {first_line(problem)}",
            hint=f"check the network, then {AGAIN}",
        )
    libraries = {kind.__module__.partition(".")[0] for kind in kinds}
    if isinstance(problem, TimeoutError) or libraries & HTTP_LIBRARIES:
        return HubError(f"no answer from {hub_address()}{_about(what)} ({type(problem).__name__})", hint=CHECK_NETWORK)
    if libraries & HUB_LIBRARIES:
        return HubError(
            f"`{what}`: {type(problem).__name__}: {first_line(problem)}", hint=f"hubdpo doctor, then {AGAIN}"
        )
    return None


def _refused(what: str, problem: BaseException) -> HubError:
    from huggingface_hub import errors

    status = status_of(problem)
    if isinstance(problem, errors.GatedRepoError):
        return HubError(f"`{what}` is gated", hint=f"ask for access at {hub_address()}/{what}")
    if isinstance(problem, errors.RepositoryNotFoundError):
        return not_there(what, _type_in(problem))
    if isinstance(problem, errors.RevisionNotFoundError):
        repo_type = _type_in(problem)
        repo, _, revision = what.partition("@")
        hint = near_revision(repo, revision, repo_type) or f"hf repos tag list {repo}{type_option(repo_type)}"
        return NoSuchRevision(f"`{repo}` has no {f'revision `{revision}`' if revision else 'such revision'}", hint=hint)
    if isinstance(problem, errors.DisabledRepoError):
        return HubError(f"`{what}` was disabled by {hub_address()}", hint=f"read why at {hub_address()}/{what}")
    if status == 401:
        return HubError(f"{hub_address()} does not accept the token", hint=log_in())
    if status == 403:
        return not_yours(what)
    if status == 507 or ((status is None or status == 413 or status >= 500) and DISK_FAILURE.search(_said(problem))):
        return HubError(
            f"{hub_address()} has no room for `{what}` ({status or 'by LFS'}): {first_line(problem)}",
            hint=f"free room on the disk of that Hub, not on this machine's, or wait until its owner has, then {AGAIN}",
        )
    if status == 429 and (delay := asked_pause(problem)) is not None and delay > 1:
        pause = f"{delay:.0f} seconds" if delay < 90 else f"{math.ceil(delay / 60)} minutes"
        return HubError(
            f"{hub_address()} answered 429, too many requests{_about(what)}: it asks to wait {pause}",
            hint=f"in {pause}, {AGAIN}",
        )
    later = status is None or status >= 500 or status in (408, 429)
    return HubError(
        f"{hub_address()} answered {status or 'with an error'}{_about(what)}: {first_line(problem)}",
        hint="try again later" if later else f"mend what it names, then {AGAIN}",
    )


def _tls_fault(fault: re.Match[str]) -> HubError:
    if fault[1] is not None:
        message = f"the certificate of {hub_address()} is not one to trust: {fault[1].strip()}"
        return HubError(message, hint=f"check HF_ENDPOINT, the clock and the proxy of this machine, then {AGAIN}")
    plain = f"http://{hub_address().partition('://')[2]}"
    is_here = urllib.parse.urlsplit(plain).hostname in THIS_MACHINE
    hint = f"export HF_ENDPOINT={plain}" if is_here else "check HF_ENDPOINT"
    return HubError(f"{hub_address()} does not speak https", hint=f"{hint}, then {AGAIN}")


def _type_in(problem: HfHubHTTPError) -> RepoType:
    return "dataset" if "/datasets/" in str(problem.response.url) else "model"


def first_line(problem: BaseException) -> str:
    """Return the message of an error on one line of at most 200 characters, or its type if it has none."""
    return " ".join(_said(problem).split())[:200] or type(problem).__name__


def _said(problem: BaseException) -> str:
    """Return the Hub's own message where it is known, else the text of the error."""
    quoted = QUOTED_ANSWER.search(str(problem))
    return str(getattr(problem, "server_message", None) or (quoted and quoted[2]) or problem).partition(" for url '")[0]


def _about(what: str) -> str:
    return f" for `{what}`" if what else ""
