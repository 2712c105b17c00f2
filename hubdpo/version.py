"""The version of the package, where it was installed from, and the versions of the libraries it stands on."""

import importlib.metadata
import json
import platform
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__version__ = "0.4.0"
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")
COMPUTING_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""Those whose version what a model computes depends on, to the last bits."""
SOURCE = "source"
"""In place of a requirement, where nobody else can install this hubdpo from an address."""
REQUIREMENT = r"(source|hubdpo==[A-Za-z0-9.+]+|hubdpo @ (git\+)?(https?|ssh)://[A-Za-z0-9_.~:/@%+=#&-]+)"
"""What `requirement` returns; it is safe in the code of a card."""
_LOCAL = re.compile(r"localhost|127\.[\d.]+|\[::1\]|0\.0\.0\.0")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that training depends on, by name."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def requirement() -> str:
    """Return what pip takes to install this very hubdpo elsewhere, or SOURCE.

    PEP 610's `direct_url.json` tells where it was installed from; what came from an index has none. Credentials and
    queries of addresses are left out.
    """
    try:
        installed = importlib.metadata.distribution("hubdpo")
    except importlib.metadata.PackageNotFoundError:
        return SOURCE
    if Path(str(installed.locate_file("hubdpo/version.py"))).resolve() != Path(__file__).resolve():
        return SOURCE  # another copy is imported than the one that pip knows, as of an editable installation
    found = installed.read_text("direct_url.json")
    address = f"hubdpo @ {_address(json.loads(found))}" if found else f"hubdpo=={__version__}"
    return address if re.fullmatch(REQUIREMENT, address) else SOURCE


def _address(direct: dict[str, Any]) -> str:
    """Return the URL that a `direct_url.json` tells, pinned to its commit or hash; "" for a place on this machine."""
    url = urlsplit(str(direct["url"]))
    host = url.netloc.rpartition("@")[2]
    if not host or url.scheme not in ("https", "http", "ssh") or _LOCAL.fullmatch(url.hostname or ""):
        return ""
    place = f"{url.scheme}://{'git@' if url.scheme == 'ssh' else ''}{host}{url.path}"
    vcs, archive = direct.get("vcs_info"), direct.get("archive_info", {})
    sha256 = archive.get("hash", "").partition("sha256=")[2]
    sha256 = dict(archive.get("hashes") or {}).get("sha256", sha256)  # `hash` is the form of older installers
    parts = {"sha256": sha256, "subdirectory": direct.get("subdirectory")}
    fragment = "&".join(f"{name}={value}" for name, value in parts.items() if value)
    pinned = f"{vcs['vcs']}+{place}@{vcs['commit_id']}" if vcs else place
    return f"{pinned}#{fragment}" if fragment else pinned
