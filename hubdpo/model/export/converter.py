"""Find llama.cpp's converters, and run one of them: scripts of its sources that no package installs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hubdpo.errors import ArtefactError, ConfigError, MachineError

PLACE = "HUBDPO_LLAMA_CPP"
OF_ADAPTERS, OF_MODELS = "convert_lora_to_gguf.py", "convert_hf_to_gguf.py"
FETCH = "git clone --depth 1 https://github.com/ggml-org/llama.cpp, then `--llama-cpp llama.cpp`"
NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
UNSPLIT = "BPE pre-tokenizer was not recognized"


def find_converter(name: str, folder: Path | None) -> Path:
    """Return the script of this name from `folder`, the folder that PLACE names, or PATH; ConfigError without it."""
    named = folder if folder is not None else Path(os.environ[PLACE]) if os.environ.get(PLACE) else None
    if named is not None:
        if (named / name).is_file():
            return (named / name).resolve()
        origin = "`--llama-cpp`" if folder is not None else PLACE
        raise ConfigError(f"`{named}`, from {origin}, has no {name}", hint=FETCH)
    if (found := shutil.which(name)) is not None:
        return Path(found).resolve()
    raise ConfigError(f"{name}, which llama.cpp's sources have, was not found", hint=FETCH)


def run_converter(script: Path, words: Sequence[str | Path], *, cwd: Path) -> None:
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
