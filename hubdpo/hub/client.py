"""One door to the Hub: an HfApi with timeouts, and its errors turned into ours."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hubdpo import console
from hubdpo.config.push import is_repo_id
from hubdpo.errors import ArtefactError, ConfigError, HubError
from hubdpo.hub.transport import http

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset"]
PUBLIC_HUB = "https://huggingface.co"
CONNECT_S, READ_S, WRITE_S = 10.0, 60.0, 300.0


@functools.cache
def endpoint() -> str:
    """Return where the Hub is: `HF_ENDPOINT`, or the public Hub.

    Raise HubError for http to another machine, which would send the token in clear.
    """
    console.quiet_libraries()
    from huggingface_hub import constants

    url = urllib.parse.urlsplit(constants.ENDPOINT)
    if url.scheme != "https" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise HubError(
            f"the endpoint is not encrypted, so a token would travel in clear: {constants.ENDPOINT}",
            hint="export HF_ENDPOINT=https://...",
        )
    return str(constants.ENDPOINT)


@functools.cache
def api() -> HfApi:
    """Return the client. Its requests time out; those of huggingface_hub alone wait for ever."""
    where = endpoint()
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import hf_request_event_hook

    def limit(request: Any) -> None:
        # a timeout of the client does not reach the calls that pass `timeout=None`, such as those for refs and trees
        limits = http().Timeout(READ_S, connect=CONNECT_S, write=WRITE_S).as_dict()
        given = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {name: given.get(name) or limit for name, limit in limits.items()}

    def client() -> Any:
        hooks = {"request": [hf_request_event_hook, limit]}
        return http().Client(event_hooks=hooks, follow_redirects=True, timeout=None)

    set_client_factory(client)
    return HfApi(endpoint=where, library_name="hubdpo")


def status_of(problem: BaseException) -> int | None:
    """Return the HTTP status behind an error of the client, or None when no answer came."""
    response = getattr(problem, "response", None)
    return getattr(response, "status_code", None)


def is_unknown_outcome(problem: BaseException) -> bool:
    """Tell whether a write may or may not have happened: no readable answer, or the server failed or was busy."""
    if isinstance(problem, JSONDecodeError):  # a proxy's page in place of the Hub's answer
        return True
    if isinstance(problem, RuntimeError) and problem.__cause__:  # of huggingface_hub, about a file that it was sending
        return is_unknown_outcome(problem.__cause__)
    return isinstance(problem, (http().TransportError, OSError)) and status_of(problem) in (
        None, 408, 429, 500, 502, 503, 504,
    )  # fmt: skip


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Raise HubError, with a hint, for whatever the Hub or the network refuses in the body. `what` names the thing."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise HubError(f"`{what}` is gated", hint=f"ask for access at {endpoint()}/{what}") from None
    except errors.RepositoryNotFoundError:
        hint = "hf auth login, or check the name" if _token() else "hf auth login, or export HF_TOKEN=..."
        raise HubError(f"`{what}` is not on {endpoint()}, or is private", hint=hint) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"`{what}` has no such revision", hint=f"hf repos tag list {what.partition('@')[0]}") from None
    except errors.LocalEntryNotFoundError:
        raise HubError(f"`{what}` cannot be downloaded from {endpoint()}", hint="check the network") from None
    except errors.EntryNotFoundError as problem:
        raise HubError(f"`{what}` lacks a file: {_first_line(problem)}", hint="check the revision") from None
    except errors.HfHubHTTPError as problem:
        raise _http_error(what, problem) from None
    except JSONDecodeError:
        raise HubError(
            f"what {endpoint()} answered for `{what}` is not JSON",
            hint="check HF_ENDPOINT, and whether a proxy stands between",
        ) from None
    except RuntimeError as problem:
        if isinstance(problem.__cause__, errors.HfHubHTTPError):  # a large file that was not taken
            raise _http_error(what, problem.__cause__) from None
        raise
    except ConnectionError as problem:
        raise HubError(
            f"large files of `{what}` cannot be sent or read: {_first_line(problem)}",
            hint="check the network, then run the same command again",
        ) from None
    except http().TransportError as problem:
        raise HubError(
            f"no answer from {endpoint()} for `{what}`: {type(problem).__name__}",
            hint="check the network and HF_ENDPOINT, then run the same command again",
        ) from None


def _http_error(what: str, problem: Exception) -> HubError:
    status = status_of(problem)
    if status == 401:
        return HubError(f"{endpoint()} does not accept the token", hint="hf auth login, or export HF_TOKEN=...")
    if status == 403:
        return HubError(
            f"the token may not do this to `{what}`", hint="use a token with write access to that namespace"
        )
    return HubError(f"{endpoint()} answered {status} for `{what}`: {_first_line(problem)}", hint="try again later")


def _first_line(problem: Exception) -> str:
    message = getattr(problem, "server_message", None) or str(problem)
    return " ".join(str(message).split())[:200]


def _token() -> str | None:
    from huggingface_hub import get_token

    token: str | None = get_token()
    return token


def parse_ref(ref: str) -> tuple[str, str | None]:
    """Split `USER/NAME[@REVISION]`. Raise ConfigError when it is not of that form."""
    repo_id, _, revision = ref.partition("@")
    if not is_repo_id(repo_id):
        raise ConfigError(f"not a repo: `{ref}`", hint="write USER/NAME or USER/NAME@v1.0.0")
    return repo_id, revision or None


def parse_unless_folder(ref: str) -> tuple[str, str | None]:
    """Do as `parse_ref` with what is no folder but could have been. Raise ArtefactError when it was meant to be one."""
    if ref.startswith((".", "/", "~")):
        raise ArtefactError(f"folder not found: {ref}", hint="give a folder that is there, or USER/NAME")
    return parse_ref(ref)


def resolve(repo_id: str, revision: str | None = None, *, repo_type: RepoType = "model") -> str:
    """Return the commit (40 hex digits) that a branch, tag or commit names now. Raise HubError when there is none."""
    with translate_errors(f"{repo_id}@{revision}" if revision else repo_id):
        sha = api().repo_info(repo_id, revision=revision, repo_type=repo_type).sha
    if not sha:
        raise HubError(f"{endpoint()} names no commit for `{repo_id}`", hint="try again later")
    return str(sha)


def download(
    repo_id: str,
    sha: str,
    *,
    repo_type: RepoType = "model",
    allow_patterns: list[str] | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Return a folder with the files of a commit, from the cache or the Hub. Raise HubError when one does not come."""
    with translate_errors(f"{repo_id}@{sha[:12]}"):
        return fetch(repo_id, sha, repo_type=repo_type, allow_patterns=allow_patterns, cache_dir=cache_dir)


def fetch(
    repo_id: str,
    sha: str,
    *,
    repo_type: RepoType = "model",
    allow_patterns: list[str] | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Do as `download`, with the client's own errors, so that the caller can try again."""
    try:
        folder = api().snapshot_download(
            repo_id, revision=sha, repo_type=repo_type, allow_patterns=allow_patterns, cache_dir=cache_dir
        )
    except RuntimeError as problem:  # of hf_xet, whatever kept it from reading; what it cannot send is such an error
        raise ConnectionError(_first_line(problem)) from problem
    return Path(folder)
