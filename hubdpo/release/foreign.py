"""Say what to do with an adapter that another tool trained, where a release of hubdpo is needed."""

from __future__ import annotations

from hubdpo.artefacts.folders.lineage import adopting
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG
from hubdpo.artefacts.formats.bounded import parse_object
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import Snapshot


def adopting_it(files: Snapshot) -> str | None:
    """Return the hint that makes a run of an adapter of another tool; None for anything else."""
    if ADAPTER_CONFIG not in files.files or RUN_FILE in files.files:
        return None
    try:
        config = parse_object(files.read(ADAPTER_CONFIG), ADAPTER_CONFIG)
    except ArtefactError:
        config = {}
    return adopting(files.name, config.get("base_model_name_or_path"))
