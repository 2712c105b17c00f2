"""`hubdpo serve-hub`"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from hubdpo import console
from hubdpo.cli._options import errors_end_here


def register(app: typer.Typer) -> None:
    @app.command("serve-hub")
    def serve_hub(
        folder: Annotated[Path, typer.Argument(help="Where repos are kept; created when missing.", metavar="DIR")],
        port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
        token: Annotated[
            list[str] | None,
            typer.Option(
                help="Token to accept; may be given more than once. Other users see it in the list of processes.",
                metavar="NAME:VALUE[:read|write]",
            ),
        ] = None,
        token_file: Annotated[
            Path | None,
            typer.Option(help="File of tokens, one a line, that you alone can read.", metavar="FILE"),
        ] = None,
    ) -> None:
        """Serve a Hub of your own on this machine until stopped.

        Set the HF_ENDPOINT that it prints and HF_TOKEN, and every client of
        the Hub works against it: by Xet, or with HF_HUB_DISABLE_XET=1 by LFS.

        Everything is kept in DIR; to back it up, stop the server and copy DIR.
        Tokens come from --token-file, from HUBDPO_HUB_TOKENS (with spaces
        between them) or from --token, and are kept as hashes; NAME owns the
        repos under NAME/.
        """
        with errors_end_here():
            from hubdpo.loopback.room import say_it_once
            from hubdpo.loopback.server import LoopbackHub
            from hubdpo.loopback.tokens import tokens_in_environment, tokens_in_file

            tokens = [*tokens_in_environment(os.environ), *(token or ())]
            if token_file is not None:
                tokens += tokens_in_file(token_file)
            server = LoopbackHub(folder, port=port, tokens=tokens)
            sys.unraisablehook = say_it_once
            for ending in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
                signal.signal(ending, _interrupt)
            console.result(f"HF_ENDPOINT={server.endpoint}", {"HF_ENDPOINT": server.endpoint})
            console.info(f"serving {folder}; stop with Ctrl-C")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                console.info("stopped")
            finally:
                server.stop()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
