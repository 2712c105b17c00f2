"""Nothing of a repo is ever run, whatever it asks for and whatever the terminal answers."""

from __future__ import annotations

import ast
import builtins
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

import hubdpo
from hubdpo.data.tokens.tokenizer import encoder_of, find_model
from hubdpo.model.adapters import load
from hubdpo.model.tokenizer import rendering
from tests.model.hostile import adapter_on_hub, base_on_hub, edited

PACKAGE = Path(hubdpo.__file__).parent
FLAGS = {
    "model/tokenizer/load.py": {"AutoTokenizer": {"trust_remote_code": False, "local_files_only": True}},
    "model/bases/load.py": {
        "AutoModelForCausalLM": {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True},
        "AutoConfig": {"trust_remote_code": False, "local_files_only": True},
        "GenerationConfig": {"local_files_only": True},
        "AutoModelForCausalLM.from_config": {"trust_remote_code": False},
    },
    "model/adapters/load.py": {"PeftModel": {"local_files_only": True}},
}


def calls(source: str) -> list[ast.Call]:
    """Every call in a module of what may run the files of others: `from_pretrained`, `load_dataset` and their like."""
    names = {"from_pretrained", "from_config", "load_dataset", "load_dataset_builder", "pipeline", "torch.load"}
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call for call in found if {ast.unparse(call.func), getattr(call.func, "attr", "")} & names]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_three_modules_alone_load_what_others_made(path: Path) -> None:
    flags = {
        ast.unparse(call.func).removesuffix(".from_pretrained"): {
            word.arg: word.value.value
            for word in call.keywords
            if isinstance(word.value, ast.Constant)
            and word.arg in ("trust_remote_code", "local_files_only", "use_safetensors")
        }
        for call in calls(path.read_text())
    }
    assert flags == FLAGS.get(path.relative_to(PACKAGE).as_posix(), {})


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_module_alone_renders_chat_templates(path: Path) -> None:
    used = [
        node for node in ast.walk(ast.parse(path.read_text())) if getattr(node, "attr", "") == "apply_chat_template"
    ]
    assert len(used) == (path == Path(rendering.__file__))


def evil(folder: Path, marker: Path, **fields: Any) -> None:
    """Put code into a folder that leaves a mark, and ask for it in the file that `fields` name."""
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').write('it ran')\nclass Evil: pass\n")
    for name, values in fields.items():
        edited(folder, f"{name}.json", **values)


TOKENIZER = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "EvilTokenizer"}
MODEL = {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}, "model_type": "evil"}


def elsewhere(fields: dict[str, Any], repo: str) -> dict[str, Any]:
    """The same, its code in another repo."""
    return json.loads(json.dumps(fields).replace("evil.Evil", f"{repo}--evil.Evil"))


def known(fields: dict[str, Any]) -> dict[str, Any]:
    """The same of a kind that transformers has code of its own for."""
    return {"auto_map": fields["auto_map"]}


COMMANDS: dict[str, Callable[[str, str, Path], list[str]]] = {
    "load": lambda adapter, base, here: ["load", adapter, "--max-new-tokens", "1"],
    "verify": lambda adapter, base, here: ["verify", f"{adapter}@v1.0.0"],
    "merge": lambda adapter, base, here: ["merge", adapter, "-o", str(here / "merged"), "--dtype", "float32"],
    "inspect": lambda adapter, base, here: ["inspect", adapter],
    "evaluate": lambda adapter, base, here: ["evaluate", str(here / "run"), "--model-name-or-path", base],
    "train": lambda adapter, base, here: [
        "train", "--dataset", str(here / "data"), "--model-name-or-path", base, "-o", str(here / "new"),
        "--max-steps", "1", "--max-length", "64", "--gradient-accumulation-steps", "1",
    ],
    "prepare": lambda adapter, base, here: [
        "prepare", str(here / "raw.jsonl"), "-o", str(here / "out"), "--model", base, "--test-size", "0",
    ],
    "prepare, the model an adapter": lambda adapter, base, here: [
        "prepare", str(here / "raw.jsonl"), "-o", str(here / "out"), "--model", adapter, "--test-size", "0",
    ],
}  # fmt: skip
ROWS = [
    # what asks for code, in the adapter or in the base, the file that asks, and what each command answers
    ("adapter", "tokenizer_config", TOKENIZER, {"load": 3, "verify": 6, "merge": 3, "inspect": None, "prepare": 2}),
    # the tokenizer of a kind of model that transformers knows is the one it has
    ("base", "tokenizer_config", TOKENIZER, dict.fromkeys(("load", "train", "prepare"), 0)),
    ("base", "config", MODEL, {"load": 2, "verify": 6, "merge": 2, "evaluate": 2, "train": 2, "prepare": 0}),
    ("base", "config", known(MODEL), dict.fromkeys(("load", "merge", "evaluate", "prepare"), 0)),
]
CASES = [
    (where, whose, file, fields, command, code)
    for whose, file, fields, codes in ROWS
    for command, code in codes.items()
    for where in ("in the repo", "in another repo")
    if where == "in the repo" or command in ("load", "prepare")
]


@pytest.mark.parametrize(("where", "whose", "file", "fields", "command", "code"), CASES)
def test_code_is_never_run_and_nothing_is_asked(
    run_dir: Path, tiny_base: Path, dataset_dir: Path, tmp_path: Path, repo_id: str, run_cli: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch, where: str, whose: str, file: str, fields: dict[str, Any], command: str, code: int,
) -> None:  # fmt: skip
    marker, asked = tmp_path / "it-ran", []
    monkeypatch.setattr(builtins, "input", lambda prompt="": asked.append(prompt) or "y")
    if where == "in another repo":
        (tmp_path / "third").mkdir()
        evil(tmp_path / "third", marker)
        adapter_on_hub(run_dir, tmp_path / "third", f"{repo_id}-third", edit=lambda folder: evil(folder, marker))
        fields = elsewhere(fields, f"{repo_id}-third")

    def edit(folder: Path) -> None:
        evil(folder, marker, **{file: fields})

    _, base = base_on_hub(tiny_base, tmp_path, f"{repo_id}-base", edit if whose == "base" else None)
    adapter_on_hub(run_dir, tmp_path, repo_id, base, edit if whose == "adapter" else None)
    shutil.copytree(dataset_dir, tmp_path / "data")
    shutil.copytree(run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*", "release.json"))
    (tmp_path / "raw.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    key = "prepare, the model an adapter" if (whose, command) == ("adapter", "prepare") else command
    done = run_cli(*COMMANDS[key](repo_id, base, tmp_path))
    assert not marker.exists()
    assert not asked
    assert code is None or done.exit_code == code, done.output
    if code:
        assert "asks to run code" in done.output or "only with code from its repo" in done.output
        assert "hint:" in done.output
        assert "Traceback" not in done.output


def test_of_an_adapter_only_what_loading_reads_is_fetched(
    run_dir: Path, tmp_path: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(folder: Path) -> None:
        evil(folder, tmp_path / "it-ran")
        for name in ("adapter_model.bin", "training_args.bin", "optimizer.pt", "local.json", "tokenizer_evil.py"):
            (folder / name).write_bytes(b"{}")

    adapter_on_hub(run_dir, tmp_path, repo_id, edit=edit)
    fetched: list[Path] = []
    check = load.check_adapter_files
    monkeypatch.setattr(load, "check_adapter_files", lambda folder: fetched.append(folder) or check(folder))
    monkeypatch.setattr(load, "load_on_base", lambda folder, base, **options: (None, None))
    load.load_adapter(repo_id)
    (folder,) = fetched
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "run.json", "tokenizer.json"} <= names
    assert not {name for name in names if name.endswith((".py", ".bin", ".pt"))} | ({"local.json"} & names)
    data = encoder_of(find_model(repo_id))
    assert data.end_of_turn is not None
    assert not {path.name for path in folder.iterdir()} - names


@pytest.mark.parametrize("command", ["load", "verify", "merge"])
def test_a_pickle_is_not_opened(
    run_dir: Path, tmp_path: Path, repo_id: str, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:  # fmt: skip
    opened: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *given, **named: opened.append(given) or {})

    def edit(folder: Path) -> None:
        (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")

    adapter_on_hub(run_dir, tmp_path, repo_id, edit=edit)
    done = run_cli(*COMMANDS[command](repo_id, "", tmp_path))
    assert done.exit_code == (6 if command == "verify" else 3), done.output
    assert "adapter_model.safetensors" in done.output
    assert not opened


def test_a_terminal_that_says_yes_changes_nothing(run_dir: Path, tmp_path: Path, repo_id: str) -> None:
    marker = tmp_path / "it-ran"
    adapter_on_hub(run_dir, tmp_path, repo_id, edit=lambda folder: evil(folder, marker, tokenizer_config=TOKENIZER))
    done = subprocess.run(
        [sys.executable, "-m", "hubdpo", "load", repo_id], input="y\n" * 9, capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, marker.exists()) == (3, False), done.stderr
    assert "error: " in done.stderr
    assert "`auto_map` in tokenizer_config.json" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr + done.stdout
