"""What answers at the endpoint of this process, in turn: the public Hub, and the Hub that a page's reader starts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self

from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages
from tests.docs.props import ACCOUNTS


class Hubs:
    """Two Hubs that take turns on one port, because the clients of a process read their endpoint once."""

    def __init__(self, public: Path, port: int) -> None:
        self._public, self._port = public, port
        self._now: LoopbackHub | None = None

    def __enter__(self) -> Self:
        self.public()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def public(self) -> None:
        """Serve the Hub that stands for huggingface.co."""
        self._serve(LoopbackHub(self._public, port=self._port_free(), pages=HubPages()))

    def own(self) -> None:
        """Serve a new Hub, on which nothing is."""
        folder = Path(tempfile.mkdtemp(dir=self._public.parent))
        self._serve(LoopbackHub(folder / "hub", port=self._port_free(), tokens=ACCOUNTS["tokens"], pages=HubPages()))

    def _serve(self, hub: LoopbackHub) -> None:
        hub.start()
        self._now = hub

    def _port_free(self) -> int:
        self._stop()
        return self._port

    def _stop(self) -> None:
        if self._now is not None:
            from huggingface_hub import close_session  # reads the endpoint when it is imported

            close_session()  # or clients go on with connections to the Hub that ends
            self._now.stop()
            self._now = None
