"""`hubdpo view`: serve the pages of one thing on 127.0.0.1, for reading only."""

from __future__ import annotations

from hubdpo.loopback.http.server import LocalServer, failure
from hubdpo.loopback.http.wire import Answer, Refusal, Request, shortened
from hubdpo.view import site
from hubdpo.view.page import Asked
from hubdpo.view.render import SAFE_HEADERS, STATIC, static
from hubdpo.view.thing import Thing


class ViewServer:
    """Serve pages until `close`. Raise ConfigError if the port cannot be used."""

    def __init__(self, thing: Thing, *, port: int = 0) -> None:
        self._thing = thing
        self._server = LocalServer(port, self.answer)
        self.address = f"{self._server.endpoint}/"
        self.start, self.serve_forever, self.close = (
            self._server.start, self._server.serve_forever, self._server.close,
        )  # fmt: skip

    def answer(self, request: Request) -> Answer:
        """Answer a request; an unexpected error becomes a 500, with its traceback on stderr."""
        try:
            return answer_pages(request, self._thing)
        except Refusal as refusal:
            return refused(refusal)
        except (ConnectionError, TimeoutError):  # the browser went away
            raise
        except Exception as problem:
            return refused(failure(request, problem))


def answer_pages(request: Request, thing: Thing) -> Answer:
    """Return a page of the thing, or a file that all pages share. Raise Refusal for any method that could change it."""
    if request.method not in ("GET", "HEAD"):
        raise Refusal(405, "these pages are for reading: GET and HEAD alone")
    refuse_other_sites(request)
    match [part for part in request.segments if part]:
        case [first, name] if first == STATIC:
            if (found := static(name)) is None:
                raise Refusal(404, "there is no such file")
            return found
        case parts:
            return site.answer(Asked.parse("", tuple(parts), request.query), thing)


def refuse_other_sites(request: Request) -> None:
    """Raise Refusal for a request that a script of another site sends; a link from there may be followed."""
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() != f"http://{request.headers.get('host', '')}".lower():
        raise Refusal(403, f"scripts of another site may not read these pages: {shortened(origin)!a}")


def refused(refusal: Refusal) -> Answer:
    answer = refusal.answer()
    answer.headers |= SAFE_HEADERS
    return answer
