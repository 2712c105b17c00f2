"""`hubdpo serve-hub`: serve a local Hub, or look after its folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli.command import JSON, error_boundary
from hubdpo.cli.signals import until_stopped
from hubdpo.errors import ConfigError, Instead
from hubdpo.machine.refusals import in_units

FOLDER = "Look after the folder"


def serve_hub(
    folder: Annotated[Path, typer.Argument(help="Folder of the repos; created if missing.", metavar="DIR")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0 picks a free port.")
    ] = 0,
    token: Annotated[
        list[str] | None,
        typer.Option(
            help="Token to accept; repeatable. Other users of the machine can see it in the process list.",
            metavar="NAME:VALUE[:read|write]",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File of tokens, one per line, readable by you alone.", metavar="FILE")
    ] = None,
    org: Annotated[
        list[str] | None,
        typer.Option(help="Organisation, whose members own the repos NAME/*; repeatable.", metavar="NAME:USER,USER"),
    ] = None,
    access_log: Annotated[
        str | None, typer.Option(help="File to append a line to for each request; `-` is stderr.", metavar="FILE")
    ] = None,
    gc: Annotated[
        bool,
        typer.Option(
            "--gc",
            help="Remove from the disk what no repo refers to, and end. Stop the server first.",
            rich_help_panel=FOLDER,
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --gc: only say what would be removed.", rich_help_panel=FOLDER)
    ] = False,
    list_tokens: Annotated[
        bool,
        typer.Option(
            "--list-tokens", help="List tokens, without their values, and organisations.", rich_help_panel=FOLDER
        ),
    ] = False,
    revoke: Annotated[
        list[str] | None,
        typer.Option(
            help="Refuse all tokens of a user, or one by its id, from now on; repeatable.",
            metavar="NAME|ID",
            rich_help_panel=FOLDER,
        ),
    ] = None,
    json: JSON = False,
) -> None:
    """Serve a local Hub until stopped.

    Set HF_ENDPOINT to the printed address, and HF_TOKEN. Any Hub client
    then works with this server, through Xet or (HF_HUB_DISABLE_XET=1) LFS.
    In a browser, the address has pages of all repos (docs/how-to/view.md).

    All data lives in DIR; to back it up, stop the server and copy DIR.
    Tokens come from --token-file, HUBDPO_HUB_TOKENS (space-separated) or
    --token, and are stored as hashes. User NAME owns the repos NAME/*.
    """  # fmt: skip
    tasks = {"--gc": gc, "--list-tokens": list_tokens, "--revoke": bool(revoke)}
    named = [name for name, given in tasks.items() if given]
    command = None if named or token else "serve-hub"  # hints of a task are whole lines, and no line tells a token
    with console.written_as(console.Format.json if json else None), error_boundary(command=command):
        if len(named) > 1 or (dry_run and not gc):
            wrong = f"{named[0]} and {named[1]} exclude each other" if len(named) > 1 else "--dry-run belongs to --gc"
            raise ConfigError(wrong, hint=f"hubdpo serve-hub {folder} --gc --dry-run")
        serving = {
            "--port": port, "--token": token, "--token-file": token_file, "--org": org, "--access-log": access_log,
        }  # fmt: skip
        if folder.is_file():
            raise ConfigError(f"`{folder}` is a file, and a Hub needs a folder", hint=Instead(str(folder), "hub"))
        if named and (unused := [name for name, given in serving.items() if given]):
            raise ConfigError(f"{named[0]} serves nothing, so it takes no {unused[0]}", hint=f"leave out {unused[0]}")
        if gc:
            _collect_garbage(folder, dry_run=dry_run)
        elif list_tokens:
            _list_tokens(folder)
        elif revoke:
            _revoke(folder, revoke)
        else:
            _serve(folder, port, token or [], token_file, org or [], access_log)


def _serve(
    folder: Path, port: int, token: list[str], token_file: Path | None, org: list[str], access_log: str | None
) -> None:
    from hubdpo.loopback.http.access_log import AccessLog
    from hubdpo.loopback.limits import ignore_full_disk
    from hubdpo.loopback.server import LoopbackHub
    from hubdpo.loopback.storage.tokens import declared_in_environment, declared_in_file
    from hubdpo.view.hub.pages import HubPages

    tokens, orgs = declared_in_environment(os.environ)
    if token_file is not None:
        declared = declared_in_file(token_file)
        tokens, orgs = tokens + declared.tokens, orgs + declared.orgs
    log = AccessLog(access_log).write if access_log else lambda _: None
    server = LoopbackHub(folder, port=port, tokens=tokens + token, orgs=orgs + org, done=log, pages=HubPages())
    sys.unraisablehook = ignore_full_disk
    console.result(f"HF_ENDPOINT={server.endpoint}", {"HF_ENDPOINT": server.endpoint})
    console.info(f"serving {folder}, to browsers too; stop with Ctrl-C")
    try:
        until_stopped(server.serve_forever)
    finally:
        server.stop()


def _collect_garbage(folder: Path, *, dry_run: bool) -> None:
    from hubdpo.loopback.storage.garbage import find_garbage, remove
    from hubdpo.loopback.storage.store import Store, present

    store = Store(present(folder))
    try:
        garbage = find_garbage(store)
        if not dry_run:
            remove(store, garbage)
    finally:
        store.close()
    total = garbage.total
    console.table(
        ["", "files", "size"],
        [[kind, f"{part.files:,}", in_units(part.bytes)] for kind, part in garbage.parts.items()],
    )
    done = "would remove" if dry_run else "removed"
    data = {kind: {"files": part.files, "bytes": part.bytes} for kind, part in garbage.parts.items()}
    console.result(
        f"{done} {console.counted(total.files, 'file')}, {in_units(total.bytes)}",
        {"dry_run": dry_run, "files": total.files, "bytes": total.bytes, "parts": data},
    )
    if dry_run and total.files:
        console.hint(f"hubdpo serve-hub {folder} --gc")


def _list_tokens(folder: Path) -> None:
    from hubdpo.loopback.storage.store import accounts_in

    with accounts_in(folder) as accounts:
        tokens, orgs = accounts.tokens(), accounts.orgs()
    rows = [
        {
            "id": token.id, "user": token.user, "role": "write" if token.may_write else "read",
            "organisations": [org for org, members in orgs.items() if token.user in members],
            "added": _day(token.added), "last_used": _day(token.used), "revoked": _day(token.revoked),
        }
        for token in tokens
    ]  # fmt: skip
    columns = ["id", "user", "role", "organisations", "added", "last used", "revoked"]
    console.table(columns, [[", ".join(v) if isinstance(v, list) else v or "-" for v in row.values()] for row in rows])
    if orgs:
        console.table(["organisation", "members"], [[org, ", ".join(members)] for org, members in orgs.items()])
    valid = sum(token.revoked is None for token in tokens)
    console.result(
        f"{console.counted(valid, 'valid token')} of {console.counted(len({t.user for t in tokens}), 'user')},"
        f" {console.counted(len(orgs), 'organisation')}",
        {"tokens": rows, "organisations": orgs},
    )


def _revoke(folder: Path, named: list[str]) -> None:
    from hubdpo.loopback.storage.store import accounts_in

    with accounts_in(folder) as accounts:
        known = [each for token in accounts.tokens() if token.revoked is None for each in (token.user, token.id)]
        for name in named:
            if name not in known:
                raise ConfigError(
                    f"no valid token has the user or id {name}", hint=f"hubdpo serve-hub {folder} --list-tokens"
                )
        revoked = [token for name in named for token in accounts.revoke(name)]
    ids = [f"{token.id} of {token.user}" for token in revoked]
    console.result(
        f"revoked {console.counted(len(ids), 'token')}: {console.listed(ids, 10)}", {"revoked": [t.id for t in revoked]}
    )


def _day(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d", time.localtime(seconds))
