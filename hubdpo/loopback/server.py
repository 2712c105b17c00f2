"""The loopback Hub: repos in a folder, served on 127.0.0.1."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from hubdpo.loopback import limits
from hubdpo.loopback.api.routes import Routes
from hubdpo.loopback.faults import Faults
from hubdpo.loopback.http.server import LocalServer, Logged, failure
from hubdpo.loopback.http.wire import Answer, Request
from hubdpo.loopback.reading import Pages
from hubdpo.loopback.storage.store import Store
from hubdpo.loopback.storage.tokens import parse_org, parse_tokens

LOGGED = 10_000


class LoopbackHub:
    """A Hub whose repos are in the folder `root`, which is created if missing; one server at a time can use it.

    `tokens` are `NAME:VALUE[:read|write]` and `orgs` are `NAME:USER,USER`; both stay valid across restarts. `done` gets
    every request after its answer; `pages` answers the addresses that people open. Raise ConfigError if the port or the
    folder is in use, a token is malformed or belongs to another user, or a name is taken.
    """

    def __init__(
        self, root: Path, *, port: int = 0, tokens: Sequence[str] = (), orgs: Sequence[str] = (),
        done: Callable[[Logged], None] = lambda _: None, pages: Pages | None = None,
    ) -> None:  # fmt: skip
        parsed, parsed_orgs = parse_tokens(tokens), [parse_org(text) for text in orgs]
        self.faults = Faults()
        self.requests: deque[Logged] = deque(maxlen=LOGGED)
        # before the folder is created or changed
        self._server = LocalServer(
            port, lambda request: self.answer(request), faults=self.faults, log=self.requests.append, done=done
        )
        self.endpoint = self._server.endpoint
        with contextlib.ExitStack() as undo:
            undo.callback(self._server.close)
            self._store = Store(root)
            undo.callback(self._store.close)
            self._store.accounts.add(parsed, parsed_orgs)
            undo.pop_all()
        self._routes = Routes(self._store, self.endpoint, pages)

    def start(self) -> None:
        """Serve in a background thread until `stop`."""
        self._server.start()

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted."""
        self._server.serve_forever()

    def stop(self) -> None:
        self._server.close()
        self._store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, request: Request) -> Answer:
        """Answer a request. An unexpected error becomes a 500, with its traceback on stderr."""
        try:
            answer = self._routes.answer(request)
        except (ConnectionError, TimeoutError):  # the client went away
            raise
        except Exception as problem:
            answer = failure(request, problem).answer()
        # or a page of another site could show a picture that is sent to a visitor who has signed in
        answer.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return limits.as_hf_xet_reads_it(answer) if request.segments[0] == "_xet" else answer
