"""`hubdpo view`: look at a dataset, a run or a release in the browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.artefacts.folders.named import ANY, check_named
from hubdpo.cli.command import command
from hubdpo.cli.signals import until_stopped


@command()
def view(
    what: Annotated[
        list[str],
        typer.Argument(help="A dataset or run folder, or a repo of the Hub.", metavar="DIR|USER/NAME[@REVISION]"),
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0 picks a free port.")
    ] = 0,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="The dataset of a run, for the texts of its held-out pairs, where it has moved.",
            metavar="DIR|USER/NAME[@REVISION]",
        ),
    ] = None,
    open: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,  # noqa: A002
) -> None:
    """Look at a dataset, a run or a release in the browser.

    Serves pages on 127.0.0.1, for reading only, until stopped with Ctrl-C.
    A run is followed while it trains; several runs are drawn together.
    """
    for each in what:
        check_named(each, ANY)
    if dataset is not None:
        check_named(dataset, ("dataset",))
    from hubdpo.view.open import open_thing
    from hubdpo.view.server import ViewServer

    server = ViewServer(open_thing(what, dataset), port=port)
    console.result(server.address, {"address": server.address})
    console.info("stop with Ctrl-C")
    if open and has_screen():
        webbrowser.open(server.address)
    try:
        until_stopped(server.serve_forever)
    finally:
        server.close()


def has_screen() -> bool:
    """Tell whether a window can open: without one, Python would start a browser in the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
