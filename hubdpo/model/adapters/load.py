"""Load a released adapter on the base that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from hubdpo.artefacts.formats.bounded import read_object, shortened
from hubdpo.artefacts.manifests.manifest import LOCAL_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.lint.hub_fields import is_id
from hubdpo.errors import ArtefactError
from hubdpo.hub.client import download, resolve
from hubdpo.hub.open import open_snapshot
from hubdpo.model.adapters.check import check_adapter_files
from hubdpo.model.adapters.files import read_json
from hubdpo.model.bases.load import ADAPTER_PATTERNS, BASE_PATTERNS, load_base
from hubdpo.model.pretrained import answer_chat, attach_adapter, read_tokenizer
from hubdpo.model.stopping import use_stops


class LoadedAdapter(NamedTuple):
    """A PEFT model on its base, the base's tokenizer, and the commit that was loaded (None for a local run folder)."""

    model: Any
    tokenizer: Any
    revision: str | None


def load_adapter(
    repo: str | Path, *, revision: str | None = None, load_in_4bit: bool | None = None, device_map: Any = None
) -> LoadedAdapter:
    """Load an adapter from the Hub, at a tag, branch or commit, or from a run folder.

    The base is loaded at its pinned commit, quantised as it was for training unless `load_in_4bit` says otherwise.
    Raise HubError when there is no such repo or revision, ArtefactError when it holds no adapter.
    """
    snapshot = open_snapshot(str(repo), revision, repo_type="model")
    folder, sha = snapshot.fetch(ADAPTER_PATTERNS), snapshot.commit
    if not (folder / "adapter_config.json").exists():
        raise ArtefactError(f"`{repo}` holds no adapter", hint="give an adapter repo, or a run folder that is complete")
    check_adapter_files(folder)
    # only a run of this machine says where its base is: a release could name any folder
    base_folder = (local_base(folder) if sha is None else None) or _base_folder(folder, str(repo))
    if load_in_4bit is None:
        load_in_4bit = _trained_in_4bit(folder)

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load_on_base(
        folder, base_folder, device=device, load_in_4bit=load_in_4bit, device_map=device_map
    )
    return LoadedAdapter(model, tokenizer, sha)


def load_on_base(
    folder: Path, base_folder: Path, *, device: str, load_in_4bit: bool, device_map: Any = None
) -> tuple[Any, Any]:
    """Load the adapter of a folder on the base of another; return the PEFT model, in evaluation mode, and tokenizer.

    Where a run made it, the chat template writes prompts as in training, and generation stops where its answers end.
    """
    base = load_base(base_folder, device=device, load_in_4bit=load_in_4bit, device_map=device_map)
    run = RunManifest.read(folder / RUN_FILE) if (folder / RUN_FILE).exists() else None
    if run is not None:
        use_stops(base, run)
    template_kwargs = run.config.get("chat_template_kwargs") if run is not None else None
    tokenizer = read_tokenizer(folder, template_kwargs, error=ArtefactError)
    return attach_adapter(base, folder).eval(), tokenizer


def answer(loaded: LoadedAdapter, prompt: str, *, max_new_tokens: int = 64) -> str:
    """Return the greedy answer to one user message."""
    chat = [{"role": "user", "content": prompt}]
    return answer_chat(loaded.model, loaded.tokenizer, chat, max_new_tokens=max_new_tokens)


def _base_folder(folder: Path, adapter: str) -> Path:
    """Download the base that an adapter names. Raise ArtefactError when that is no repo on the Hub."""
    settings = read_json(folder / "adapter_config.json")
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(name, str) or not is_id(name):
        raise ArtefactError(
            f"`{adapter}` names the base {shortened(repr(name), 100)}, which is no repo on the Hub",
            hint="give a release of hubdpo",
        )
    sha = resolve(name, str(revision) if revision is not None else None)
    return download(name, sha, allow_patterns=BASE_PATTERNS)


def _trained_in_4bit(folder: Path) -> bool:
    if not (folder / RUN_FILE).exists():
        return False
    return bool(RunManifest.read(folder / RUN_FILE).config.get("load_in_4bit"))


def local_base(folder: Path) -> Path | None:
    """Return the base folder of a run that was made on this machine from a folder, None for one from the Hub."""
    place = folder / LOCAL_FILE
    name = read_object(place).get("model_name_or_path") if place.exists() else None
    return Path(name) if isinstance(name, str) and name and Path(name).is_dir() else None
