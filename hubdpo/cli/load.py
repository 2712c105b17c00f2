"""`hubdpo load`"""

from __future__ import annotations

from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here


def register(app: typer.Typer) -> None:
    @app.command()
    def load(
        adapter: Annotated[str, typer.Argument(help="A release, or a run folder.", metavar="USER/NAME[@vX.Y.Z]")],
        prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to ask.")] = "Hello! Who are you?",
        max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Load an adapter on its pinned base and answer one prompt, greedily."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            from hubdpo.model.adapters.load import answer, load_adapter

            loaded = load_adapter(adapter)
            text = answer(loaded, prompt, max_new_tokens=max_new_tokens)
            console.result(text, {"adapter": adapter, "prompt": prompt, "answer": text}, identifier=text)
