"""A run as it is on a machine where its base was a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hubdpo.artefacts.manifests.manifest import LOCAL_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.model.bases.identity import model_hash


def copy_on_folder(run: Path, copy: Path, base: Path) -> Path:
    """Copy a run, as if it had been trained on the folder `base` as that is now."""
    shutil.copytree(run, copy)
    places = json.loads((copy / LOCAL_FILE).read_text())
    (copy / LOCAL_FILE).write_text(json.dumps({**places, "model_name_or_path": str(base)}))
    ref = BaseRef(name=base.name, sha256=model_hash(base))
    RunManifest.read(copy / RUN_FILE).model_copy(update={"base": ref, "files": {}}).write(copy / RUN_FILE)
    return copy
