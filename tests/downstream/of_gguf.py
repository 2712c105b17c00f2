"""llama.cpp: the GGUF file of the adapter on that of its base, that of the merged model, and `hubdpo export`."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import which

from hubdpo.cards.model.proofs import Proof
from tests.downstream.answers import Answer, of_server
from tests.downstream.card import block, lines, run_lines, serving
from tests.downstream.environments import CONVERTERS, ENVIRONMENTS, converters, environment, packages
from tests.downstream.of_merged import free_port, version_of
from tests.downstream.release import ADAPTER, TAG
from tests.downstream.setting import ROUNDED, Setting


def llama_cpp(setting: Setting) -> Iterator[Proof]:
    found = packages("llama.cpp")
    env = environment(found, PATH=os.pathsep.join([str(_server()), environment()["PATH"]]))
    sources = setting.work / "llama.cpp"
    if not sources.exists():
        sources.symlink_to(converters())  # what `git clone` would give
    version = f"{_engine(env)}, converters of {CONVERTERS.replace('==', ' ')}"

    *_, serve = lines(block(setting.card, "--lora "))
    run_lines(block(setting.card, "--lora "), setting.work, env, but=["llama-server"])
    answers = _answers(setting, serve, env)
    yield setting.proof("llama.cpp", "the card's commands", version, answers, tolerance=ROUNDED)

    code = block(setting.card, "ollama create")
    run_lines(code, setting.work, env, but=["ollama", "echo"])
    (written,) = [line.partition("FROM ./")[2].partition('"')[0] for line in lines(code) if line.startswith("echo")]
    answers = _answers(setting, f"llama-server --model {written}", env)
    what = "the file that the card's commands for Ollama make"
    yield setting.proof("llama.cpp", what, version, answers, reference=setting.trained, tolerance=ROUNDED)

    _export(setting, env, "exported-lora.gguf", f"{ADAPTER}@{TAG}", "--outtype", "f16")
    same = serve.replace(serve.rpartition(" ")[2], "exported-lora.gguf")
    yield setting.proof("llama.cpp", "hubdpo export --gguf", version, _answers(setting, same, env), tolerance=ROUNDED)
    merged = written.removesuffix(".gguf")
    _export(setting, env, "exported.gguf", f"./{merged}")
    answers = _answers(setting, "llama-server --model exported.gguf", env)
    what = "hubdpo export --gguf of the merged model"
    yield setting.proof("llama.cpp", what, version, answers, reference=setting.trained, tolerance=ROUNDED)


def _export(setting: Setting, env: Mapping[str, str], name: str, *words: str) -> None:
    (setting.work / name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "hubdpo", "export", *words, "--gguf", "--llama-cpp", "llama.cpp", "-o", name]
    subprocess.run(command, cwd=setting.work, env=env, check=True)


def _answers(setting: Setting, command: str, env: Mapping[str, str]) -> list[Answer]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(f"{command} --port {port}", setting.work, env, f"{address}/health"):
        return of_server(address, "any", setting.tokenizer)


def _server() -> Path:
    """Return a folder with `llama-server`, which runs the engine of xllamacpp where no other is installed."""
    folder = ENVIRONMENTS / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "llama-server"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.downstream.llama_server "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder if which("llama-server") is None else Path(str(which("llama-server"))).parent


def _engine(env: Mapping[str, str]) -> str:
    if which("llama-server") is None:
        return f"xllamacpp {version_of('xllamacpp', 'llama.cpp')}"
    done = subprocess.run(["llama-server", "--version"], env=env, capture_output=True, text=True, check=True)
    return f"llama-server {(done.stdout + done.stderr).strip().splitlines()[0].partition('version: ')[2]}"
