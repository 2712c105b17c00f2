"""Load a downloaded release: an adapter on its base, with its probes; a dataset with the splits of its card.

Of the base it is also found out whether it is still on the Hub, and whether it has changed since.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from hubdpo import console
from hubdpo.artefacts.folders.model_files import BASE_PATTERNS, COPIED_FILES
from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import fields
from hubdpo.artefacts.formats.parquet_footers import read_footer, wrong_column
from hubdpo.artefacts.manifests.evaluation import Probes
from hubdpo.artefacts.manifests.manifest import CARD_FILE, MERGE_FILE, PREPARE_FILE, PROBES_FILE, RUN_FILE
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.cards.lint.data import split_rows
from hubdpo.errors import HubdpoError, HubError, VerificationFailed
from hubdpo.hub.client import fetch
from hubdpo.hub.failures import first_line, translate_errors
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api
from hubdpo.model.adapters.check import check_adapter_files
from hubdpo.model.adapters.load import load_on_base
from hubdpo.model.bases.load import read_causal_lm
from hubdpo.model.device import pick_device
from hubdpo.model.memory import is_out_of_memory
from hubdpo.model.probes import ProbeResult, compare_probes, record_probes
from hubdpo.model.tokenizer.load import read_tokenizer

HASHES_ALONE = "`--check hashes` compares the files alone"
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", *COPIED_FILES)
DO_NOT_USE = "do not use this release; where it is yours, publish a new version, else tell its owner"
AGAIN = "hubdpo prepare ... --overwrite, then publish a new version"


def check_adapter(folder: Path) -> ProbeResult | None:
    """Load the adapter on its pinned base, in the precision of its training, and compare the probes.

    Return None when the run recorded no probes. Raise VerificationFailed when the base does not fit
    into memory or does not take the adapter, or when the log-probabilities differ.
    """
    run = RunManifest.read(folder / RUN_FILE)
    with _findings("the adapter cannot be read", large="it"):
        settings = check_adapter_files(folder).config
    name, revision = str(settings["base_model_name_or_path"]), str(settings.get("revision"))
    if (name, revision) != (run.base.repo_id, run.base.revision):
        raise VerificationFailed(
            f"adapter_config.json names the base {name}@{revision}, run.json {run.base.repo_id}@{run.base.revision}",
            hint="publish the run again",
        )
    recorded = Probes.read(folder / PROBES_FILE) if (folder / PROBES_FILE).exists() else None
    in_4bit = bool(run.in_4bit)
    console.info(f"loading the adapter on {name}@{revision[:12]}, {'NF4' if in_4bit else 'not quantised'}")
    with translate_errors(name):
        base = repeat(lambda: fetch(name, revision, allow_patterns=BASE_PATTERNS))
    device = pick_device("auto" if recorded is None or recorded.environment["device"] == "cuda" else "cpu")
    with _findings(f"the adapter cannot be loaded on {name}@{revision[:12]}", large="the base"):
        model, tokenizer = load_on_base(folder, base, device=device, load_in_4bit=in_4bit)
        if recorded is None:
            record_probes(model, tokenizer, load_in_4bit=in_4bit)  # it runs; there is nothing to compare with
            return None
        result = compare_probes(model, tokenizer, recorded)
    hint = "check the base's commit and that the run folder was not changed after training"
    return _passed(result, f"the adapter on {name}@{revision[:12]} is not what was trained", hint)


def check_merged(folder: Path) -> ProbeResult:
    """Load a merged model and compare its probes. Raise VerificationFailed when they differ or it does not load."""
    import torch

    manifest, recorded = MergeManifest.read(folder / MERGE_FILE), Probes.read(folder / PROBES_FILE)
    device = pick_device("auto" if recorded.environment["device"] == "cuda" else "cpu")
    console.info(f"loading the model, {manifest.dtype}")
    with _findings("the model cannot be loaded", large="it"):
        model = read_causal_lm(folder, dtype=getattr(torch, manifest.dtype)).to(device)
        result = compare_probes(model, read_tokenizer(folder), recorded)
    return _passed(result, "the model is not what was merged", "hubdpo merge, into another folder, and publish that")


def _passed(result: ProbeResult, otherwise: str, hint: str) -> ProbeResult:
    if result.passed:
        return result
    difference = f"{result.mean_difference:.2g} nats a token, {result.tolerance:g} at most"
    raise VerificationFailed(f"{otherwise}: log-probabilities differ by {difference}", hint=hint)


@contextmanager
def _findings(message: str, *, large: str) -> Iterator[None]:
    """Raise VerificationFailed for anything that prevents loading; `large` is what may not fit into memory."""
    try:
        yield
    except VerificationFailed:
        raise
    except HubdpoError as problem:
        raise VerificationFailed(problem.message, hint=problem.hint) from None
    except Exception as problem:
        raise VerificationFailed(
            f"{message}: {type(problem).__name__}: {first_line(problem)}",
            hint=f"where {large} does not fit into memory, {HASHES_ALONE}" if is_out_of_memory(problem) else DO_NOT_USE,
        ) from problem


def check_dataset(folder: Path) -> dict[str, int]:
    """Return the rows of each split. Raise VerificationFailed unless the data, `prepare.json` and the card agree.

    `datasets.load_dataset` reads splits and features from the card, and refuses data with other counts.
    """
    manifest = PrepareManifest.read(folder / PREPARE_FILE)
    rows: Counter[str] = Counter()
    for name in manifest.files:
        if not name.endswith(".parquet"):
            continue
        with (folder / name).open("rb") as stream, _findings(f"`{name}` cannot be read", large="it"):
            count, schema, _ = read_footer(stream, name, hint=AGAIN)
        if (wrong := wrong_column(schema, prepared=True)) is not None:
            raise VerificationFailed(f"DPO cannot train on `{name}`: {wrong}", hint=AGAIN)
        rows[Path(name).name.rpartition("-of-")[0].rpartition("-")[0]] += count
    try:
        on_card = split_rows(fields(read_text(folder / CARD_FILE)).get("dataset_info"))
    except ValueError as problem:
        raise VerificationFailed(f"{CARD_FILE}: {problem}", hint=AGAIN) from None
    for name, stated in ((PREPARE_FILE, manifest.splits), (CARD_FILE, on_card)):
        if stated is not None and stated != dict(rows):
            raise VerificationFailed(f"the data has {_words(rows)}, but {name} says {_words(stated)}", hint=AGAIN)
    return dict(rows)


def _words(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} rows in {name}" for name, count in sorted(rows.items()))


class BaseState(BaseModel):
    """The base of an adapter: its pinned commit, and the commit of its main branch now (None when unknown)."""

    repo_id: str
    revision: str
    main: str | None = None
    moved: bool | None = None
    license: str | None = None
    license_now: str | None = None


def look_up_base(base: BaseRef, *, needed: bool) -> BaseState | None:
    """Return the state of the base, with a warning when its main branch has another model or licence than recorded.

    Warn too when the base cannot be downloaded. Where it is `needed`, raise VerificationFailed when the Hub does not
    have the base at its commit, HubError when it does not answer.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if base.repo_id is None or base.revision is None:
        return None
    name, pinned = base.repo_id, base.revision
    kind = HubError
    try:
        with translate_errors(f"{name}@{pinned[:12]}"):
            try:
                now = repeat(lambda: api().model_info(name))
                moved = now.sha != pinned and _model_files(name, str(now.sha)) != _model_files(name, pinned)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                kind = VerificationFailed
                raise
    except HubError as problem:
        message = f"the base cannot be downloaded: {problem.message}"
        if needed:
            raise kind(message, hint=f"where it is private, log in with access to it; {HASHES_ALONE}") from None
        console.warn(message)
        return BaseState(repo_id=name, revision=pinned, license=base.license)
    licence = now.card_data.license if now.card_data else None
    licence = licence if isinstance(licence, str) else None
    if moved:
        console.warn(f"`{name}` has moved on to {str(now.sha)[:12]}; the adapter stays on {pinned[:12]}")
    if base.license and licence not in (None, base.license):
        console.warn(f"`{name}` is under {licence} now; it was under {base.license}")
    return BaseState(
        repo_id=name, revision=pinned, main=now.sha, moved=moved, license=base.license, license_now=licence
    )


def _model_files(repo_id: str, revision: str) -> dict[str, str | None]:
    """Return the hashes of the files that make a model what it is. A new card or commit alone is not a new model.

    A release of hubdpo, for one, is a commit beside the commit on main that has the same files.
    """
    info = repeat(lambda: api().model_info(repo_id, revision=revision, files_metadata=True))
    return {
        file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id
        for file in info.siblings or []
        if any(fnmatch.fnmatchcase(file.rfilename, pattern) for pattern in MODEL_FILES)
    }
