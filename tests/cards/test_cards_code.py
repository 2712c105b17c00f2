"""Run every code block of the generated cards against the loopback Hub."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, HfApi, ModelCard

from hubdpo import push
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.version import requirement

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN_ALL = "import json, sys\nfor block in json.load(sys.stdin): exec(compile(block, 'card', 'exec'), {})"

NOT_RUN = {
    # none of these is a dependency: what is known of their options is compared instead. `make downstream` runs them
    "vllm serve": {"--revision", "--enable-lora", "--max-lora-rank", "--lora-modules"},
    "llama-server": {"--model", "--lora"},
    "python llama.cpp/convert_lora_to_gguf.py": {"--base", "--outtype", "--outfile"},
    "python llama.cpp/convert_hf_to_gguf.py": {"--outfile"},
    "text-generation-launcher": {"--model-id", "--revision"},
    "git clone": {"--depth"},
    "pip install --requirement": {"--requirement"},
    "transformers serve": set(),
    "ollama create": {"--file"},
    "ollama run": set(),
    "mlx_lm.convert": {"--hf-path", "--mlx-path"},
    "mlx_lm.server": {"--model"},
}
"""Options by the first words of a command."""


def blocks(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the Python blocks, and the arguments of each command in the shell blocks."""
    found = BLOCK.findall(text)
    commands = "\n".join(code for language, code in found if language == "bash").replace("\\\n", " ").splitlines()
    python = [code for language, code in found if language == "python"]
    return python, [words for line in commands if (words := shlex.split(line, comments=True))]


def run_shell(words: list[str], *, cwd: Path, env: dict[str, str]) -> None:
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    program, flags = words[0], {word for word in words if word.startswith("--")}
    known = [options for begins, options in NOT_RUN.items() if words[: len(begins.split())] == begins.split()]
    if known:
        assert [flags] == known
    elif program == "echo":
        assert words[-2:] == [">", "Modelfile"]
    elif program == "pip":  # only where the tests run with an installed hubdpo, which may not be published yet
        assert words == ["pip", "install", requirement()]
    else:
        hf = str(Path(sys.executable).parent / "hf")
        start = [sys.executable, "-m", "hubdpo"] if program == "hubdpo" else [hf]
        assert program in ("hf", "hubdpo")
        done = subprocess.run([*start, *words[1:]], cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_all_code_of_both_cards_runs(
    run_dir: Path, dataset_dir: Path, repo_id: str, tmp_path: Path, fresh_hf_home: dict[str, str]
) -> None:
    for folder, repo_type in ((run_dir, "model"), (dataset_dir, "dataset")):
        HfApi().create_repo(repo_id, repo_type=repo_type)  # `push` refuses one name for both, unless the repo was made
        push(folder=folder, repo=repo_id, version="1.0.0")
    env = {**fresh_hf_home, "PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / dataset_dir.name).symlink_to(dataset_dir)  # the run's data are not on the Hub
    shutil.copy(dataset_dir.parent / "pairs.jsonl", tmp_path)

    python, shell = blocks(ModelCard.load(repo_id).text)
    data_python, data_shell = blocks(DatasetCard.load(repo_id).text)
    assert [len(python), len(data_python)] == [3, 1]
    programs = {"hf", "vllm", "python", "llama-server", "hubdpo", "transformers", "ollama", "mlx_lm.server"}
    assert {words[0] for words in shell} >= programs
    python += data_python
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], input=json.dumps(python), env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for words in dict.fromkeys(map(tuple, [*shell, *data_shell])):  # three programs need the same merge
        run_shell([*words], cwd=tmp_path, env=env)

    # what the commands were to make again is what was made
    name = "adapter_model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (run_dir / name).read_bytes()
    assert (tmp_path / "adapter" / name).read_bytes() == (run_dir / name).read_bytes()
    assert (tmp_path / "base-model" / "model.safetensors").is_file()
    assert (tmp_path / f"{repo_id.partition('/')[2]}-merged" / "merge.json").is_file()
    again, before = (PrepareManifest.read(folder / "prepare.json") for folder in (tmp_path / "data", dataset_dir))
    assert again.files == before.files  # card and plots included
