"""`hubdpo load`"""

from __future__ import annotations

from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli.command import command


def register(app: typer.Typer) -> None:
    @command(app)
    def load(
        adapter: Annotated[str, typer.Argument(help="A release, or a run folder.", metavar="USER/NAME[@vX.Y.Z]")],
        prompt: Annotated[str, typer.Option("--prompt", "-p", help="The user message.")] = "Hello! Who are you?",
        max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum tokens of the answer.")] = 64,
    ) -> None:
        """Load an adapter on its pinned base and answer one prompt, greedily."""
        from hubdpo.model.adapters.load import answer, load_adapter

        loaded = load_adapter(adapter)
        text = answer(loaded, prompt, max_new_tokens=max_new_tokens)
        console.result(text, {"adapter": adapter, "prompt": prompt, "answer": text}, identifier=text)
