"""The export stage: an adapter or a merged model in, one GGUF file out, made by llama.cpp's converter and checked.

The file is absent or complete: it gets its name after its header was compared with the weights it was made from.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubdpo import console
from hubdpo.artefacts.folders.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_PATTERNS,
    ADAPTER_WEIGHTS,
    BASE_PATTERNS,
    CONFIG,
    TOKENIZER_PATTERNS,
)
from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.artefacts.folders.scratch import beside, empty, held
from hubdpo.artefacts.formats.bounded import parse_object
from hubdpo.artefacts.formats.gguf_header import Header, is_gguf, read_gguf
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.cards.model.programs import NOT_MERGED
from hubdpo.cards.model.serving import LLAMA_CPP, Adapter, problems
from hubdpo.config.export import ExportConfig
from hubdpo.config.flags import quoted
from hubdpo.config.takes import takes
from hubdpo.errors import ArtefactError, ConfigError, MachineError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.machine.refusals import check_room
from hubdpo.model.adapters.check import CheckedAdapter, check_adapter_files
from hubdpo.model.bases.find import named_as_base
from hubdpo.model.untrusted import read_json

PLACE = "HUBDPO_LLAMA_CPP"
OF_ADAPTERS, OF_MODELS = "convert_lora_to_gguf.py", "convert_hf_to_gguf.py"
FETCH = "git clone --depth 1 https://github.com/ggml-org/llama.cpp, then `--llama-cpp llama.cpp`"
NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
UNSPLIT = "BPE pre-tokenizer was not recognized"
SCALED_HERE = "use_rslora"
"""The one problem of llama.cpp that an export mends: it writes the `lora_alpha` that gives the same scale."""
AS_MODELS = ("fp8", "gptq", "compressed-tensors", "modelopt", "mxfp4", "bitnet")
"""Stored quantisations that the converter reads (llama.cpp, conversion/base.py)."""


@dataclass(frozen=True)
class Exported:
    """The file that was written, and what its header says."""

    output: str
    kind: str
    """`adapter` or `merged`."""
    architecture: str
    tensors: int
    parameters: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@takes(ExportConfig, "model", "output")
def export(config: ExportConfig) -> Exported:
    """Write an adapter, or a merged model, as a GGUF file with llama.cpp's converter, and return what it holds.

    Raise ConfigError when the converter is not there, ArtefactError for what it cannot convert or did not convert
    whole; the output is then as it was.
    """
    _check_output(config.output)
    snapshot = open_snapshot(config.model, repo_type="model")
    if ADAPTER_CONFIG in snapshot.files:
        return _adapter(config, snapshot, _find_converter(OF_ADAPTERS, config.llama_cpp))
    if CONFIG in snapshot.files:
        return _model(config, snapshot, _find_converter(OF_MODELS, config.llama_cpp))
    raise ArtefactError(
        f"`{config.model}` holds no adapter and no model: no {ADAPTER_CONFIG} or {CONFIG}",
        hint="give a run folder, the `--output-dir` of `hubdpo merge`, or USER/NAME@vX.Y.Z",
    )


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise ConfigError(f"`{output}` is a folder", hint=f"-o {quoted(output / 'model.gguf')}")
    if output.exists() and not is_gguf(output):
        raise ConfigError(f"`{output}` exists and is not a GGUF file", hint="give another `--output`")


def _adapter(config: ExportConfig, snapshot: Snapshot, script: Path) -> Exported:
    folder = snapshot.fetch(ADAPTER_PATTERNS)
    adapter = check_adapter_files(folder)
    settings, shapes = adapter.config, adapter.shapes
    base = _base_of(snapshot, adapter)
    base_settings = read_json(base / CONFIG)
    _check_stored(base_settings, "the base of the adapter")
    tied = bool(base_settings.get("tie_word_embeddings", True))
    for one in problems(Adapter(settings, shapes, snapshot.files, snapshot.name)):
        if LLAMA_CPP in one.breaks and one.field != SCALED_HERE and (one.field != "lm_head" or tied):
            raise ArtefactError(
                f"llama.cpp cannot run this adapter: `{one.field}` {one.message}",
                hint=None
                if one.field in NOT_MERGED
                else f"hubdpo merge {quoted(config.model)} -o merged, and export that",
            )
    with _scratch(config.output) as (scratch, made):
        staged = scratch / (snapshot.name.rstrip("/").rpartition("/")[2] or "adapter")
        staged.mkdir()
        (staged / ADAPTER_WEIGHTS).symlink_to((folder / ADAPTER_WEIGHTS).resolve())
        written = settings
        if settings.get(SCALED_HERE):  # the alpha that, divided by the rank, is rsLoRA's scale (arXiv 2312.03732)
            written = {**settings, SCALED_HERE: False, "lora_alpha": settings["lora_alpha"] * math.sqrt(settings["r"])}
        (staged / ADAPTER_CONFIG).write_text(json.dumps(written), "utf-8")
        console.info(f"converter {script}")
        outtype = "f16" if config.outtype == "auto" else config.outtype  # this converter fails on its own `auto`
        _run_converter(script, [staged, "--base", base.resolve(), "--outtype", outtype, "--outfile", made], cwd=scratch)
        header = _read(made)
        _same(header.metadata.get("general.type"), "adapter", "is of type")
        _same(header.values, sum(map(math.prod, shapes.values())), "has")
        _same(header.metadata.get("adapter.lora.alpha"), float(np.float32(written["lora_alpha"])), "has lora_alpha")
        made.replace(config.output)
    return _exported(config.output, "adapter", header)


def _model(config: ExportConfig, snapshot: Snapshot, script: Path) -> Exported:
    _check_stored(parse_object(snapshot.read(CONFIG), CONFIG, of=config.model), f"`{config.model}`")
    folder = snapshot.fetch([*BASE_PATTERNS, *TOKENIZER_PATTERNS])
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ArtefactError(f"`{config.model}` has no safetensors weights", hint="give a merged model, or an adapter")
    size = sum(path.stat().st_size for path in weights)
    check_room(config.output.parent, size, "the GGUF file", hint="another `--output`, or make room")
    shapes = {name: shape for path in weights for name, shape in read_shapes(path).items()}
    with _scratch(config.output) as (scratch, made):
        console.info(f"converter {script}", f"weights   {size / 1e6:,.1f} MB")
        _run_converter(script, [folder.resolve(), "--outtype", config.outtype, "--outfile", made], cwd=scratch)
        header = _read(made)
        stored = sum(math.prod(shape) for name, shape in shapes.items() if not name.startswith("lm_head."))
        if header.values < stored:
            _same(header.values, stored, "has")
        made.replace(config.output)
    return _exported(config.output, "merged", header)


def _find_converter(name: str, folder: Path | None) -> Path:
    """Return the script of this name from `folder`, the folder that PLACE names, or PATH; ConfigError without it."""
    if named := folder or os.environ.get(PLACE):
        if (script := Path(named, name)).is_file():
            return script.resolve()
        origin = "`--llama-cpp`" if folder is not None else PLACE
        raise ConfigError(f"`{named}`, from {origin}, has no {name}", hint=FETCH)
    if (found := shutil.which(name)) is not None:
        return Path(found).resolve()
    raise ConfigError(f"{name}, which llama.cpp's sources have, was not found", hint=FETCH)


def _run_converter(script: Path, words: Sequence[str | Path], *, cwd: Path) -> None:
    """Run a converter with the Python of this process, without a network. Raise ArtefactError when it fails."""
    command = [sys.executable, str(script), *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, errors="replace"
    )
    if done.returncode == 0:
        return
    if done.returncode == -signal.SIGKILL:
        raise MachineError(
            f"{script.name} was killed, as when the memory is full", hint="use a machine with more memory"
        )
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    last = lines[-1] if lines else f"it ended with {done.returncode} and said nothing"
    if (missing := NO_MODULE.search(last)) is not None:
        module = missing[1].partition(".")[0]
        raise ConfigError(f"{script.name} needs the Python package `{module}`", hint=f"pip install {module}")
    hint = "a newer llama.cpp may know the model"
    if UNSPLIT in last:
        hint = "it knows tokenizers by what they make of a text: use the tokenizer files of the original model"
    raise ArtefactError(f"{script.name} failed: {last[:300]}", hint=hint)


def _base_of(snapshot: Snapshot, adapter: CheckedAdapter) -> Path:
    is_local = snapshot.commit is None
    if is_local and (local := remembered_folder(adapter.folder, "model_name_or_path")) is not None:
        return local
    if (named := adapter.named_base(is_local=is_local)) is None:
        raise ArtefactError(
            f"`{snapshot.name}` names the base {adapter.base_in_words}, which is neither on the Hub nor a folder here",
            hint="correct base_model_name_or_path in its adapter_config.json",
        )
    if is_local and (Path(named[0]) / CONFIG).is_file():
        return Path(named[0])
    with named_as_base():
        return open_snapshot(*named, repo_type="model").fetch(TOKENIZER_PATTERNS, needed=[CONFIG])


def _check_stored(settings: dict[str, Any], named: str) -> None:
    stored = settings.get("quantization_config")
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    if stored and method not in AS_MODELS:
        raise ArtefactError(
            f"the weights of {named} are stored quantised ({str(method)[:40]}), which the converter cannot read",
            hint="use the 16-bit model that they were made from",
        )


@contextmanager
def _scratch(output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a folder beside the output, held by this process, and the path in it where the file is made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = beside(output.resolve())
    with held(scratch, output):
        try:
            empty(scratch)
            yield scratch, scratch / "made.gguf"
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _read(made: Path) -> Header:
    try:
        return read_gguf(made)
    except FileNotFoundError:
        raise ArtefactError("the converter wrote no file", hint="use a newer llama.cpp") from None
    except (OSError, ValueError) as problem:
        raise ArtefactError(f"the converter's file cannot be used: {problem}", hint="use a newer llama.cpp") from None


def _same(found: object, wanted: object, words: str) -> None:
    if found != wanted:
        raise ArtefactError(
            f"the converter's file {words} {_shown(found)}, the weights ask for {_shown(wanted)}; nothing was written",
            hint="use a newer llama.cpp",
        )


def _shown(value: object) -> str:
    return f"{value:,} values" if isinstance(value, int) else str(value)


def _exported(output: Path, kind: str, header: Header) -> Exported:
    architecture = str(header.metadata.get("general.architecture", "unknown"))
    return Exported(str(output), kind, architecture, len(header.shapes), header.values, output.stat().st_size)
