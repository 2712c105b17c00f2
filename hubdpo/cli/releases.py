"""`hubdpo verify`, `versions`, `inspect` and `load`: look at releases, and at folders that may become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from hubdpo import console
from hubdpo.artefacts.folders.named import ANY, check_named, is_folder
from hubdpo.cli.command import DOWNLOADED, command
from hubdpo.config.base import ADAPTERS
from hubdpo.config.flags import quoted
from hubdpo.config.push import Check
from hubdpo.config.repo_id import is_repo_id
from hubdpo.console import counted
from hubdpo.errors import ConfigError

if TYPE_CHECKING:
    from hubdpo.release.verify.verify import Verified

GREETING = "Hello! Who are you?"
MAX_LISTED = 40
"""Columns, or other items of a list, in the table for people; JSON has them all."""


@command(stopped=DOWNLOADED)
def verify(
    release: Annotated[str, typer.Argument(help="A release on the Hub.", metavar="USER/NAME@vX.Y.Z")],
    check: Annotated[
        str, typer.Option(help="`load` the release too, or compare `hashes` only.", metavar="load|hashes")
    ] = "load",
) -> None:
    """Download a release, compare every file with its manifest, and load it.

    An adapter must give the log-probabilities that training recorded, on its pinned base; a dataset must have the
    recorded number of rows. Exits with 6 on a difference; a base whose main branch has moved is a warning.
    """
    if check not in ("load", "hashes"):
        raise ConfigError(f"option `--check` is not valid: {check!r}", hint="--check load, or --check hashes")
    from hubdpo.release.verify.verify import verify as run

    level: Check = "load" if check == "load" else "hashes"
    verified = run(release, check=level)
    name = f"{verified.repo}@{verified.tag}"
    console.result(
        f"verified: {name}, {counted(len(verified.files), 'file')} at {verified.commit}; {_outcome(verified)}",
        verified.model_dump(mode="json"),
        identifier=name,
    )


def _outcome(verified: Verified) -> str:
    if verified.checked == "hashes":
        return "hashes only, not loaded"
    if verified.splits is not None:
        return ", ".join(f"{counted(rows, 'row')} in {name}" for name, rows in verified.splits.items())
    if verified.probes is None:
        return "loads on its base; it has no probes to compare"
    probes = counted(verified.probes.answers, "probe")
    if verified.probes.exact:
        return f"{probes} exactly as recorded"
    return f"{probes} within {verified.probes.mean_difference:.1g} nats a token of what was recorded"


@command()
def versions(
    repo: Annotated[str, typer.Argument(help="A dataset or adapter on the Hub.", metavar="USER/NAME")],
) -> None:
    """List the releases of a repo, newest first."""
    from hubdpo.release.list import releases

    found = releases(repo)
    rows = [
        (
            release.tag, release.date, release.commit[:12], release.kind or "not by hubdpo", release.bytes or "-",
            "main" if release.on_main else "",
        )
        for release in found
    ]  # fmt: skip
    console.table(["version", "date", "commit", "kind", "bytes", "main"], rows)
    console.result(
        f"{repo}: {counted(len(found), 'release')}",
        {"repo": repo, "releases": [release.as_dict() for release in found]},
        identifier="\n".join(f"{repo}@{release.tag}" for release in found),
    )
    if found:
        console.hint(f"hubdpo verify {repo}@{found[0].tag}")


@command(stopped=DOWNLOADED)
def inspect(
    ref: Annotated[str, typer.Argument(help="A folder, or a repo on the Hub.", metavar="DIR|USER/NAME[@REV]")],
) -> None:
    """Describe an adapter, a merged model or a dataset, its problems, and how to run it elsewhere."""
    check_named(ref, ANY)
    from hubdpo.artefacts.manifests.bundle import A_KIND
    from hubdpo.hub.reference import parse_ref
    from hubdpo.release.inspect import inspect as run

    report = run(ref)
    console.table(["", report.kind], [(name, _cell(value)) for name, value in report.facts.items()])
    for finding in report.findings:
        console.warn(f"`{finding.field}` {finding.message}")
        if finding.hint:
            console.hint(finding.hint)
    for way in report.ways:
        state = f"blocked by {', '.join(way.broken_by)}" if way.broken_by else "no known blockers"
        console.info("", f"── {way.name}: {state}", f"   {way.ran}", *way.code.splitlines())
    problems = counted(len(report.findings), "problem") if report.findings else "no problems"
    console.result(
        f"{report.ref}: {A_KIND[report.kind]}, {problems} found", report.as_dict(),
        identifier=f"{parse_ref(report.ref).repo_id}@{report.commit}" if report.commit else report.ref,
    )  # fmt: skip


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return console.listed((f"{name} {_cell(inner)}" for name, inner in value.items()), MAX_LISTED)
    if isinstance(value, list):
        return console.listed(map(str, value), MAX_LISTED)
    return f"{value:,}" if isinstance(value, int) else str(value)


@command(stopped=DOWNLOADED)
def load(
    adapter: Annotated[str, typer.Argument(help="A release, or a run folder.", metavar="USER/NAME[@vX.Y.Z]")],
    text: Annotated[str | None, typer.Argument(help="The user message.", metavar="PROMPT")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="The same, as an option.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum tokens of the answer.")] = 64,
) -> None:
    """Load an adapter on its pinned base and answer one prompt, greedily."""
    if text is not None and prompt is not None:
        raise ConfigError("two prompts are given", hint="leave `--prompt` out, or the text after the adapter")
    asked = next((given for given in (text, prompt) if given is not None), None)
    if asked is not None and _names_model(asked) and not _names_model(adapter):
        raise ConfigError(
            "the adapter is named first, and then the prompt", hint=f"hubdpo load {quoted(asked)} {quoted(adapter)}"
        )
    check_named(adapter, ADAPTERS)
    if asked is not None and not asked.strip():
        raise ConfigError("the prompt is empty", hint=f"hubdpo load {quoted(adapter)} {quoted(GREETING)}")
    from hubdpo.model.adapters.load import answer, load_adapter

    if asked is None:
        asked = GREETING
        console.info(f"no prompt is given, so the adapter is asked: {asked}")
    answered = answer(load_adapter(adapter), asked, max_new_tokens=max_new_tokens)
    if not answered.strip():
        console.warn("the answer is empty")
    console.result(answered, {"adapter": adapter, "prompt": asked, "answer": answered}, identifier=answered)


def _names_model(word: str) -> bool:
    """Tell whether a word is a folder here, or has the form of a repo with a revision or without."""
    return is_folder(word) or is_repo_id(word.partition("@")[0])
