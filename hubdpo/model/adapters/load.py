"""Load an adapter, from the Hub or from a run folder, on the base that it was trained on."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubdpo import console
from hubdpo.artefacts.folders.kinds import NOT_LOADED, verify_run
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_PATTERNS, ADAPTER_WEIGHTS
from hubdpo.artefacts.manifests.manifest import MERGE_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.config.base import ADAPTERS
from hubdpo.config.flags import quoted
from hubdpo.config.takes import plain
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.client import called
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import checked_name
from hubdpo.model.adapters.check import CheckedAdapter, check_adapter_files, check_on_base
from hubdpo.model.adapters.reference import POLICY, load_weights
from hubdpo.model.bases.find import base_folder
from hubdpo.model.bases.load import load_base
from hubdpo.model.device import check_device_map, pick_device
from hubdpo.model.generation import answer_chat, use_stops
from hubdpo.model.quiet import without_chatter
from hubdpo.model.tokenizer.load import read_tokenizer
from hubdpo.model.untrusted import one_line_errors

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_OF_AN_ADAPTER = re.compile(r"\.lora_|\.modules_to_save\.|\.trainable_tokens")


class LoadedAdapter(NamedTuple):
    """A PEFT model on its base, its tokenizer, and the commit that was loaded (None for a run folder)."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    revision: str | None


@plain
def load_adapter(
    repo: str | Path, *, revision: str | None = None, load_in_4bit: bool | None = None, device_map: object = None
) -> LoadedAdapter:
    """Load an adapter from the Hub, at a tag, branch or commit, or from a run folder.

    The base is loaded at its pinned commit, quantised as it was for training unless `load_in_4bit` says otherwise.
    Raise HubError when the Hub has no such repo or revision, ArtefactError when it holds no adapter.
    """
    if load_in_4bit is not None and not isinstance(load_in_4bit, bool):
        raise ConfigError(f"`load_in_4bit` is {load_in_4bit!r}", hint="True, False, or None for that of the training")
    check_device_map(device_map)
    snapshot = open_snapshot(checked_name("repo", repo), revision, repo_type="model", wanted=ADAPTERS)
    folder, sha = snapshot.fetch(ADAPTER_PATTERNS), snapshot.commit
    if not (folder / ADAPTER_CONFIG).exists():
        if MERGE_FILE in snapshot.files:
            raise ArtefactError(
                f"`{repo}` is a merged model, which needs no adapter",
                hint=f'AutoModelForCausalLM.from_pretrained("{snapshot.name}") in Python, as its card says',
            )
        raise ArtefactError(f"`{repo}` holds no adapter", hint="give an adapter repo, or a run folder that is complete")
    adapter, run = check_adapter_files(folder), _run_of(folder)
    if sha is None and run is not None:
        verify_run(folder, run, but=NOT_LOADED)
        base = base_folder(run.base, folder)
    else:  # a release could name any folder of this machine, so only the Hub is asked
        base = base_folder(_base_named_by(adapter, repo))
    if load_in_4bit is None:
        load_in_4bit = run is not None and bool(run.in_4bit)
    model, tokenizer = load_on_base(
        folder, base, device=pick_device("auto"), load_in_4bit=load_in_4bit, device_map=device_map
    )
    return LoadedAdapter(model, tokenizer, sha)


def load_on_base(
    folder: Path, base: Path, *, device: str, load_in_4bit: bool, device_map: object = None
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load the adapter of one folder on the base of another; return the model, in evaluation mode, and the tokenizer.

    For an adapter that hubdpo trained, the base is in the type of the training, the chat template has its defaults, and
    generation stops where the adapter's answers end.
    """
    run = _run_of(folder)
    dtype, template_kwargs = (run.dtype, run.template_kwargs) if run is not None else ("auto", None)
    model = load_base(base, device=device, load_in_4bit=load_in_4bit, dtype=dtype, device_map=device_map)
    if run is not None:
        use_stops(model, run)
    tokenizer = read_tokenizer(folder, template_kwargs, error=ArtefactError)
    return attach_adapter(model, folder).eval(), tokenizer


def attach_adapter(base: PreTrainedModel, folder: Path) -> PeftModel:
    """Return a PEFT model: the adapter of a folder on its base. Raise ArtefactError when it does not fit."""
    from peft import PeftModel

    adapter = check_adapter_files(folder)
    check_on_base(adapter, [name for name, _ in base.named_modules() if name])
    in_full = adapter.is_built_in_full
    with one_line_errors(folder, "the adapter", ArtefactError), without_chatter():
        # unless it is built in full, PEFT makes no room for tensors that the weights lack: they are counted below
        warnings.filterwarnings("error" if in_full else "ignore", message="Found missing adapter keys")
        model = PeftModel.from_pretrained(base, str(folder), local_files_only=True, low_cpu_mem_usage=not in_full)
    missing = [name for name, weight in model.named_parameters() if weight.is_meta and _OF_AN_ADAPTER.search(name)]
    if missing:
        raise ArtefactError(
            f"{ADAPTER_CONFIG} of `{called(folder)}` asks for {console.counted(len(missing), 'tensor')} that its "
            f"weights lack, `{missing[0]}` first",
            hint=f"hubdpo inspect {quoted(called(folder))}, and tell its owner",
        )
    restore_bits(model, folder / ADAPTER_WEIGHTS)
    return model


def attach_another(model: PeftModel, folder: Path, name: str) -> None:
    """Add a second adapter, of a folder, to a PEFT model under a name. Raise ArtefactError when it does not fit."""
    adapter = check_adapter_files(folder)
    check_on_base(adapter, [module for module, _ in model.get_base_model().named_modules() if module])
    load_weights(model, folder, name)
    restore_bits(model, folder / ADAPTER_WEIGHTS, name)


def restore_bits(model: PeftModel, file: Path, name: str = POLICY) -> None:
    """Give an adapter the bits of its file: on a base in 16 bits PEFT rounds it to these, though it is float32 after.

    The tensors of a state dict share their memory with the model.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    stored = load_file(file) if file.is_file() else {}
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    for key, tensor in state.items():
        if key in stored and tensor.shape == stored[key].shape:
            tensor.copy_(stored[key])  # which is memory of the model


def answer(loaded: LoadedAdapter, prompt: str, *, max_new_tokens: int = 64) -> str:
    """Return the greedy answer to one user message."""
    chat = [{"role": "user", "content": prompt}]
    return answer_chat(loaded.model, loaded.tokenizer, chat, max_new_tokens=max_new_tokens)


def _run_of(folder: Path) -> RunManifest | None:
    return RunManifest.read(folder / RUN_FILE) if (folder / RUN_FILE).exists() else None


def _base_named_by(adapter: CheckedAdapter, repo: str | Path) -> BaseRef:
    """Read the base from adapter_config.json. Raise ArtefactError when it is not a repo on the Hub."""
    if (named := adapter.named_base(is_local=False)) is None:
        raise ArtefactError(
            f"`{repo}` names the base {adapter.base_in_words}, which is not a repo on the Hub",
            hint="give a release of hubdpo",
        )
    return BaseRef(name=named[0], repo_id=named[0], revision=named[1])
