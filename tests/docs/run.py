"""Run the blocks of a page in order, in a folder of its own, against the Hubs of this process.

A page that sets HF_ENDPOINT to this machine has a Hub of its own from there on, on which is what the page puts there. A
command of huggingface.co leaves it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from tests.docs.hubs import Hubs
from tests.docs.pages import Block, Command, blocks, commands, not_run, reason_not_to_run

ASSIGNED = re.compile(r"(?:export )?([A-Za-z_]\w*)=")
NAMED = re.compile(r"# ([\w./-]+\.(?:ya?ml|jsonl?|py|jinja|toml))\n")
"""First line of a block that is a file."""
OURS = ("HF_ENDPOINT", "HF_TOKEN", "HF_HOME")
"""Variables of this process, which a page that sets them does not change."""
OWN_HUB = re.compile(r"export HF_ENDPOINT=http://127\.0\.0\.1\b")
OF_THE_PUBLIC_HUB = re.compile(r"hf (auth login|download)\b")
MAKES = ("prepare", "train", "sweep", "adopt", "merge", "export")
OUTPUTS = ("-o", "--output-dir", "--output")
SERVES = ("serve-hub", "view")
ENDS = {"--gc", "--list-tokens", "--revoke", "--help"}
"""Options with which these end by themselves."""
GO_ON = {"--resume", "--extend"}
LAST_LINES = 30


class Failed(Exception):
    """A block that does not do what the page says."""


class Page:
    """The folder in which a page is read, with what its blocks have set so far."""

    def __init__(self, props: Path, folder: Path, hubs: Hubs) -> None:
        self._props, self._folder, self._hubs = props, folder, hubs
        self._variables: dict[str, str] = {}
        self._names: dict[str, Any] = {"__name__": "page"}
        self._reasons = not_run()
        self._failed: list[Failed] = []

    def run(self, page: Path) -> list[Failed]:
        """Run all blocks, and return what failed."""
        os.chdir(self._folder)
        self._hubs.public()
        for block in blocks(page):
            with self._noted():
                self._run_block(block)
        return self._failed

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Failed as fault:
            self._failed.append(fault)

    def _run_block(self, block: Block) -> None:
        if block.language == "python":
            self._run_python(block)
        elif named := NAMED.match(block.text):
            path = self._folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "yaml":
            check_config(block)
        elif block.language in ("bash", "console"):
            with contextlib.ExitStack() as servers:
                for command in commands(block):
                    with self._noted():
                        self._run_command(command, servers)

    def _run_python(self, block: Block) -> None:
        made = re.findall(r'output_dir="(\w+)"', block.text)
        self._provide([word for word in re.findall(r"[\w./@-]+", block.text) if word not in made])
        try:
            with captured():
                exec(compile(block.text, f"{block.page.name}:{block.line}", "exec"), self._names)
        except Exception:
            raise Failed(f"{block.page}:{block.line}: {traceback.format_exc()}") from None

    def _run_command(self, command: Command, servers: contextlib.ExitStack) -> None:
        if OWN_HUB.match(command.text):
            self._hubs.own()
        elif OF_THE_PUBLIC_HUB.match(command.text):
            self._hubs.public()
        if reason_not_to_run(command, self._reasons):
            return
        words = command.words
        if assigned := ASSIGNED.match(command.text):
            if assigned[1] not in OURS:
                self._variables[assigned[1]] = self._shell(command, f'{command.text}\nprintf %s "${assigned[1]}"')
            return
        if words[0] == "hubdpo" and len(words) > 1:
            self._provide([word for word in words if word.endswith((".yaml", ".yml"))])
            made = self._cleared(words) if words[1] in MAKES and not GO_ON & {*words} else []
            self._provide([word for word in words if word not in made])
            if words[1] == "push":
                _free_version(words)
            if words[1] in SERVES and not ENDS & {*words}:
                servers.enter_context(_serving(command, self._folder))
                return
            if not re.search(r"[|<>$;&*]", shlex.join(words)):
                self._run_hubdpo(command, words)
                return
        self._provide(words)
        self._shell(command, command.text)

    def _cleared(self, words: list[str]) -> list[str]:
        """Remove what a command writes, and return its name: a page may show several ways to make one folder."""
        given = dict(zip(words, words[1:], strict=False))
        made = [given[option] for option in OUTPUTS if option in given]
        if not made and (config := self._folder / given.get("--config", "-")).is_file():
            options = yaml.safe_load(config.read_text(encoding="utf-8"))
            made = [options[name] for name in ("output-dir", "output_dir") if name in options]
        for path in (self._folder / value for value in made):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return made

    def _provide(self, words: list[str]) -> None:
        for word in words:
            name = word.strip("/").partition("/")[0].partition("=")[2] or word.strip("/").partition("/")[0]
            prop, here = self._props / name, self._folder / name
            if not name or name.startswith(("-", ".")) or here.exists() or not prop.exists():
                continue
            if prop.is_dir():
                shutil.copytree(prop, here)
            else:
                shutil.copy(prop, here)

    def _run_hubdpo(self, command: Command, words: list[str]) -> None:
        from hubdpo.cli.app import main

        code: object = 0
        with captured() as said, patch.object(sys, "argv", words), patch.dict(os.environ, self._variables):
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        if code:
            raise Failed(f"{command.place}: `{command.text}` ended with {code}:\n{_last(said.getvalue())}")

    def _shell(self, command: Command, text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self._folder, capture_output=True, text=True,
            env={**os.environ, **self._variables}, timeout=300,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{command.place}: `{command.text}` ended with {done.returncode}:\n{_last(done.stderr)}")
        return done.stdout


def _free_version(words: list[str]) -> None:
    """Delete the repo in which the version to push exists: a page may push it twice, or the props have it."""
    from huggingface_hub import HfApi

    repo = next((word for word in words[3:] if "/" in word), "")
    kind = "dataset" if any(word in words[2] for word in ("data", "preferences")) else "model"
    api = HfApi()
    if "--version" in words and "--dry-run" not in words and api.repo_exists(repo, repo_type=kind):
        tag = f"v{words[words.index('--version') + 1]}"
        if api.revision_exists(repo, tag, repo_type=kind):
            api.delete_repo(repo, repo_type=kind)


@contextlib.contextmanager
def _serving(command: Command, folder: Path) -> Iterator[None]:
    """Start a server on a free port until the end of its block."""
    words = shlex.split(re.sub(r"--port \d+", "--port 0", shlex.join(command.words)))
    server = subprocess.Popen(
        [sys.executable, "-m", "hubdpo", *words[1:]],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert server.stdout
    said = ""
    for line in server.stdout:
        said += line
        if address := re.match(r"(?:HF_ENDPOINT=)?(http://127[.0-9]+:\d+)", line):
            break
    else:
        raise Failed(f"{command.place}: `{command.text}` did not serve:\n{_last(said)}")
    try:
        with contextlib.suppress(urllib.error.HTTPError):  # an answer, so that it can be stopped
            urllib.request.urlopen(address[1], timeout=60).read()
        yield
    finally:
        server.terminate()
        server.communicate(timeout=60)
    if server.returncode:
        raise Failed(f"{command.place}: `{command.text}` ended with {server.returncode}")


def check_config(block: Block) -> None:
    """Raise Failed unless a YAML block is a config of one of the commands that take a file."""
    from hubdpo.config import PrepareConfig, SweepConfig, TrainConfig
    from hubdpo.errors import ConfigError

    values = yaml.safe_load(block.text)
    problems = []
    needed = {
        PrepareConfig: {"output_dir": "data", "path": ["rows.jsonl"]},
        TrainConfig: {"output_dir": "run", "dataset": "data", "model_name_or_path": "base"},
        SweepConfig: {"output_dir": "sweep", "dataset": "data", "model_name_or_path": "base"},
    }
    for model, others in needed.items():
        known = {name: value for name, value in others.items() if name in model.model_fields}
        try:
            model.build({**known, **{name.replace("-", "_"): value for name, value in values.items()}})
            return
        except ConfigError as problem:
            problems.append(str(problem))
    raise Failed(f"{block.page}:{block.line}: no command takes this YAML: {problems}")


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


def _last(text: str) -> str:
    return "\n".join(text.splitlines()[-LAST_LINES:])
