"""Repos as somebody who means harm could put them on the Hub: the session's run and base, with files of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from hubdpo.artefacts.manifests.bundle import Bundle
from hubdpo.artefacts.manifests.manifest import file_entry, fingerprint
from hubdpo.artefacts.manifests.run import RunManifest

Edit = Callable[[Path], None]


def edited(folder: Path, name: str, **fields: Any) -> None:
    """Set fields of a JSON file."""
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields))


def uploaded(folder: Path, repo: str) -> str:
    HfApi().create_repo(repo, exist_ok=True)
    return str(HfApi().upload_folder(repo_id=repo, folder_path=str(folder)).oid)


def base_on_hub(tiny_base: Path, work: Path, repo: str, edit: Edit | None = None) -> tuple[Path, str]:
    """Put a copy of the base on the Hub; return its folder and `NAME@COMMIT`."""
    folder = Path(shutil.copytree(tiny_base, work / "base"))
    if edit is not None:
        edit(folder)
    return folder, f"{repo}@{uploaded(folder, repo)}"


def adapter_on_hub(run_dir: Path, work: Path, repo: str, base: str | None = None, edit: Edit | None = None) -> Path:
    """Put a copy of the run on the Hub as release v1.0.0 whose hashes are right; return its folder."""
    folder = Path(
        shutil.copytree(run_dir, work / "adapter", ignore=shutil.ignore_patterns("checkpoint-*", "release.json"))
    )
    (folder / "local.json").unlink(missing_ok=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    run = RunManifest.read(folder / "run.json")
    name, _, sha = (base or f"{run.base.repo_id}@{run.base.revision}").partition("@")
    ref = run.base.model_copy(update={"name": name, "repo_id": name, "revision": sha})
    run.model_copy(update={"base": ref, "files": {}}).write(folder / "run.json")
    edited(folder, "adapter_config.json", base_model_name_or_path=name, revision=sha)
    if edit is not None:
        edit(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: file_entry(folder / name) for name in names}
    bundle_id = fingerprint(["1.0.0", {name: entry.model_dump() for name, entry in files.items()}])
    Bundle(kind="adapter", version="1.0.0", bundle_id=bundle_id, files=files).write(folder / "hubdpo.json")
    uploaded(folder, repo)
    HfApi().create_tag(repo, tag="v1.0.0")
    return folder
