"""Files on this machine or at an fsspec URL (s3://, gs://, file://, ...), so that a cluster can share them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias, cast

import fsspec
import fsspec.core
import pyarrow as pa
from fsspec.spec import AbstractBufferedFile

from hubdpo.errors import DataError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    ArrowFile: TypeAlias = IO[bytes] | pa.NativeFile


def is_url(place: str) -> bool:
    return "://" in place


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL and the path in it. Raise DataError for a protocol that is not installed."""
    try:
        return cast("tuple[AbstractFileSystem, str]", fsspec.core.url_to_fs(url))
    except (ImportError, ValueError) as problem:
        missing = getattr(problem.__cause__, "name", None)
        hint = f"pip install {missing}" if missing else "copy the files to this machine, or check the address"
        raise DataError(f"cannot read {url.partition('://')[0]}:// addresses: {problem}", hint=hint) from None


def open_read(place: str) -> IO[bytes]:
    if not is_url(place):
        return Path(place).open("rb")
    system, path = filesystem(place)
    file = system.open(path, "rb")
    if isinstance(file, AbstractBufferedFile):  # of S3, GCS, the Hub and HTTP; its `readline` takes no size
        return io.BufferedReader(cast("io.RawIOBase", file))
    return cast("IO[bytes]", file)


def open_write(place: str) -> IO[bytes]:
    """Open a new file; at a URL it appears only when it is closed."""
    if not is_url(place):
        return Path(place).open("wb")
    system, path = filesystem(place)
    return cast("IO[bytes]", system.open(path, "wb"))


def open_arrow(place: str) -> ArrowFile:
    """Open a new file for Arrow, which writes local files without calling Python."""
    return open_write(place) if is_url(place) else pa.OSFile(place, "wb")


def map_arrow(place: str) -> ArrowFile:
    """Open an Arrow file; a local file is memory-mapped."""
    return open_read(place) if is_url(place) else pa.memory_map(place)


def read_arrow(place: str) -> ArrowFile:
    """Open an Arrow file without memory-mapping it: truncating a mapped file kills the process by SIGBUS."""
    return open_read(place) if is_url(place) else pa.OSFile(place)


def size_of(place: str) -> int:
    if not is_url(place):
        return Path(place).stat().st_size
    system, path = filesystem(place)
    return int(system.size(path))


def sha256(place: str) -> str:
    """Return the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with open_read(place) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def secure(place: str) -> None:
    """Flush a local file to disk."""
    if not is_url(place):
        with Path(place).open("rb") as stream:
            os.fsync(stream.fileno())


def join(place: str, *names: str) -> str:
    return "/".join((place.rstrip("/"), *names))


def make_folder(place: str) -> None:
    if not is_url(place):
        Path(place).mkdir(parents=True, exist_ok=True)
        return
    system, path = filesystem(place)
    system.makedirs(path, exist_ok=True)


def remove_folder(place: str) -> None:
    """Remove a folder and its content, if it exists."""
    if not is_url(place):
        shutil.rmtree(place, ignore_errors=True)
        return
    system, path = filesystem(place)
    if system.exists(path):
        system.rm(path, recursive=True)


def remove_file(place: str) -> None:
    system, path = filesystem(place)
    system.rm_file(path)
