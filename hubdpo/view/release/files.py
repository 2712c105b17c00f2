"""The files of a thing: folders, and what is in a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from hubdpo.hub.snapshot import SHA256_DIGITS, FolderSnapshot
from hubdpo.loopback.http.wire import CHUNK, Answer
from hubdpo.view.hub.hosted import Hosted, refs
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.release.places import file_link, revision_of
from hubdpo.view.release.shown import show
from hubdpo.view.render import SAFE_HEADERS, image
from hubdpo.view.thing import Thing

PAGE = 1000
LARGEST_PICTURE = 20_000_000
SIGNATURES = {
    rb"\x89PNG\r\n\x1a\n": "image/png", rb"\xff\xd8\xff": "image/jpeg", rb"GIF8[79]a": "image/gif",
    rb"RIFF.{4}WEBP": "image/webp",
}  # fmt: skip
"""How the files of each type of picture begin, as regular expressions."""


class Entry(NamedTuple):
    """A line of a folder. `size` is that of all files below a folder; `digest` and the commit are "" if unknown."""

    name: str
    address: str
    is_folder: bool
    size: int
    digest: str = ""
    kept_as: str = ""
    """`LFS` or `Xet` for a file that git does not hold itself."""
    title: str = ""
    commit: str = ""
    date: str = ""


def tree(asked: Asked, thing: Thing) -> Page:
    path = _path(asked, thing)
    prefix = f"{path}/" if path else ""
    sizes = _sizes(thing, prefix)
    if path in thing.snapshot.files and not sizes:
        raise PageError(404, f"`{path}` is a file", "open it from its folder")
    if not sizes and path:
        raise PageError(404, f"there is no folder `{path}` at {revision_of(thing)}")
    entries, more = (
        _hosted(asked, thing, prefix, sizes) if isinstance(thing, Hosted) else _own(asked, thing, prefix, sizes)
    )
    return Page(
        "tree.html", path or "Files",
        {
            "path": path, "crumbs_of_path": crumbs_of(asked, thing, path), "entries": entries, "more": more,
            "count": len(thing.snapshot.files), "total": sum(thing.snapshot.files.values()),
            "revision_of": revision_of(thing), "refs": refs(thing) if isinstance(thing, Hosted) else {},
            "has_commits": isinstance(thing, Hosted),
        },
    )  # fmt: skip


def blob(asked: Asked, thing: Thing) -> Page:
    path = _file(asked, thing)
    snapshot = thing.snapshot
    known = snapshot.commit is not None
    return Page(
        "blob.html", path,
        {
            "path": path, "crumbs_of_path": crumbs_of(asked, thing, path), "size": snapshot.files[path],
            "digest": snapshot.digest(path) if known else "",
            "hash_name": "SHA-256" if known and len(snapshot.digest(path)) == SHA256_DIGITS else "git blob",
            "download": file_link(asked, thing, "resolve" if isinstance(thing, Hosted) else "download", path),
            **show(asked, thing, path),
        },
    )  # fmt: skip


def picture(asked: Asked, thing: Thing) -> Answer:
    """Return a picture whose bytes are of one of the types that browsers only draw."""
    path = _file(asked, thing)
    if thing.snapshot.files[path] > LARGEST_PICTURE:
        raise PageError(413, f"`{path}` is too large to be shown")
    with thing.snapshot.open(path) as stream:
        content = stream.read()
    for signature, media_type in SIGNATURES.items():
        if re.match(signature, content, re.DOTALL):
            return image(content, media_type)
    raise PageError(415, f"`{path}` is no PNG, JPEG, GIF or WebP")


def download(asked: Asked, thing: Thing) -> Answer:
    """Return a file to be saved, never to be shown."""
    path = _file(asked, thing)
    headers = {
        **SAFE_HEADERS, "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.rpartition('/')[2], safe='')}",
    }  # fmt: skip

    thing.snapshot.open(path).close()  # here, a file that is gone is still a page that says so

    def content(start: int) -> Iterator[bytes]:
        with thing.snapshot.open(path) as stream:
            stream.seek(start)
            while piece := stream.read(CHUNK):
                yield piece

    return Answer(200, headers, source=content, length=thing.snapshot.files[path])


def crumbs_of(asked: Asked, thing: Thing, path: str) -> list[tuple[str, str]]:
    """Return the folders above a path, and itself, with their addresses."""
    parts = path.split("/") if path else []
    top = ("files", asked.link("tree", revision_of(thing)))
    return [
        top,
        *((name, file_link(asked, thing, "tree", "/".join(parts[: place + 1]))) for place, name in enumerate(parts)),
    ]


def _path(asked: Asked, thing: Thing) -> str:
    """Return the path in an address `PAGE/REVISION/PATH`. Raise PageError 404 for another revision than is shown."""
    revision, *parts = asked.rest[1:] or [revision_of(thing)]
    if revision != revision_of(thing):
        raise PageError(404, f"only {thing.revision or 'this folder'} is shown here", f"hubdpo view REPO@{revision}")
    return "/".join(filter(None, parts))


def _file(asked: Asked, thing: Thing) -> str:
    """Return the path of a file that the snapshot lists. Raise PageError 404, and 403 for a link to the outside."""
    path = _path(asked, thing)
    if path not in thing.snapshot.files:
        raise PageError(404, f"there is no file `{path}` at {revision_of(thing)}")
    snapshot = thing.snapshot
    if isinstance(snapshot, FolderSnapshot):
        folder = snapshot.folder.resolve()
        if not (folder / path).resolve().is_relative_to(folder):
            raise PageError(403, f"`{path}` is a link to a file outside of the folder")
    return path


def _sizes(thing: Thing, prefix: str) -> dict[str, int]:
    """Return the size of each file and folder directly below a prefix; names of folders end in `/`."""
    sizes: dict[str, int] = {}
    for name, size in thing.snapshot.files.items():
        if name.startswith(prefix):
            first, slash, _ = name[len(prefix) :].partition("/")
            sizes[first + slash] = sizes.get(first + slash, 0) + size
    return sizes


def _own(asked: Asked, thing: Thing, prefix: str, sizes: dict[str, int]) -> tuple[list[Entry], str | None]:
    start = asked.number("p", 0) * PAGE
    names = sorted(sizes, key=lambda name: (not name.endswith("/"), name))
    entries = []
    for name in names[start : start + PAGE]:
        path = prefix + name.rstrip("/")
        is_folder = name.endswith("/")
        digest = "" if is_folder or thing.snapshot.commit is None else thing.snapshot.digest(path)
        address = file_link(asked, thing, "tree" if is_folder else "blob", path)
        kept_as = "LFS" if len(digest) == SHA256_DIGITS else ""
        entries.append(Entry(name.rstrip("/"), address, is_folder, sizes[name], digest, kept_as))
    return entries, asked.here(p=asked.number("p", 0) + 1) if start + PAGE < len(names) else None


def _hosted(asked: Asked, thing: Hosted, prefix: str, sizes: dict[str, int]) -> tuple[list[Entry], str | None]:
    at = (str(thing.snapshot.commit), *filter(None, prefix.split("/")))
    read = thing.get("tree", *at, expand="true", cursor=asked.text("cursor"))
    entries = []
    for item in read.value:
        is_folder, last = item["type"] == "directory", item.get("lastCommit") or {}
        name = item["path"].removeprefix(prefix)
        large = item.get("lfs")
        entries.append(
            Entry(
                name, file_link(asked, thing, "tree" if is_folder else "blob", item["path"]), is_folder,
                sizes.get(f"{name}/" if is_folder else name, 0),
                "" if is_folder else large["oid"] if large else item["oid"],
                "Xet" if item.get("xetHash") else "LFS" if large else "",
                last.get("title", ""), last.get("id", ""), str(last.get("date", ""))[:10],
            )
        )  # fmt: skip
    cursor = next_cursor(read.headers)
    return entries, asked.here(cursor=cursor) if cursor else None


def next_cursor(headers: dict[str, str]) -> str | None:
    """Return where the next page of a list begins, by its `Link` header."""
    match = re.search(r'<([^>]*)>; rel="next"', headers.get("Link", ""))
    return dict(parse_qsl(urlsplit(match[1]).query)).get("cursor") if match else None
