"""Facts of a repo are data: whatever a manifest, a config or a card says, no command prints it as it is.

Every text in them is replaced by one that moves the cursor, colours, turns letters round and begins lines of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi
from safetensors.numpy import save_file
from typer.testing import Result

from hubdpo import prepare
from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.errors import ArtefactError
from hubdpo.release.verify.files import MANIFESTS
from tests.cards.made import report
from tests.limited import run_limited
from tests.release.made import made_run
from tests.release.test_release_files import listing, merged

Cli = Callable[..., Result]
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x85\u202e\u2066\nerror: forged\r\nhint: forged\u2028\x7f"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
SHA = "0" * 40


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all texts."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if isinstance(one, str):
            yield (*path, key)
        else:
            yield from leaves(one, (*path, key))


def spoil(value: Any, accepts: Callable[[Any], bool]) -> Any:
    """The value with EVIL after every text, but where that is not accepted."""
    for path in list(leaves(value)):
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        before = holder[path[-1]]
        holder[path[-1]] = before + EVIL
        if not accepts(value):
            holder[path[-1]] = before
    return value


def parses(name: str) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        try:
            MANIFESTS[name].parse(json.dumps(value).encode(), name)
        except ArtefactError:
            return False
        return name not in ("run.json", "merge.json") or EVIL not in str(value["base"]["repo_id"])

    return accepts


def spoiled(folder: Path) -> Path:
    """Spoil all that a folder says, so far as it is still a manifest."""
    for name in MANIFESTS:
        if (folder / name).exists():
            value = spoil(json.loads((folder / name).read_text()), parses(name))
            (folder / name).write_text(json.dumps(value))
    if (folder / "adapter_config.json").exists():
        config = json.loads((folder / "adapter_config.json").read_text())
        named = config["base_model_name_or_path"]
        config = spoil(config, lambda value: True) | {"peft_type": "LORA" + EVIL}
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": named}))
    write_card(folder)
    return folder


def write_card(folder: Path, *without: str) -> None:
    front: dict[str, Any] = dict.fromkeys(
        ["license", "license_name", "license_link", "base_model", "datasets", "language", "tags", "pipeline_tag",
         "library_name", "pretty_name", "task_categories", "size_categories", "base_model_relation"], EVIL,
    )  # fmt: skip
    front |= {EVIL: EVIL, "configs": [{"config_name": EVIL, "data_files": [{"split": EVIL, "path": EVIL}]}]}
    front["dataset_info"] = {"splits": [{"name": EVIL, "num_examples": 1}], "features": [{"name": EVIL}]}
    body = f"[a]({EVIL}) ![b](x{EVIL}.png) <b onclick='{EVIL}'> /home/me{EVIL} [More Information Needed]\n{EVIL}"
    front = {name: value for name, value in front.items() if name not in without}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(front)}---\n{body}\n")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    place = tmp_path_factory.mktemp("hostile")
    base = BaseRef(name="alice/nowhere", repo_id="alice/nowhere", revision=SHA, license="mit")
    adapter = made_run(place / "adapter", base, megabytes=0.01)
    report().write(adapter / "eval.json")
    rows = [json.dumps({"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}"}) for i in range(20)]
    (place / "raw.jsonl").write_text("\n".join(rows))
    prepare(source=[str(place / "raw.jsonl")], output_dir=place / "dataset", test_size=0)
    merge = merged(place / "merged", None)
    save_file({"w" + EVIL: np.zeros(2, "float32")}, merge / "model.safetensors")
    return {"adapter": spoiled(adapter), "dataset": spoiled(place / "dataset"), "merged": spoiled(merge)}


def harmless(done: Result) -> None:
    for text in (done.stdout, done.stderr):
        assert not OBEYED.search(text), ascii(text[:2000])
        assert not re.search(r"^(error|hint): forged", text, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


@pytest.mark.parametrize("kind", ["adapter", "dataset", "merged"])
def test_no_command_prints_what_a_terminal_obeys(
    folders: dict[Kind, Path], tmp_path: Path, repo_id: str, run_cli: Cli, kind: Kind
) -> None:
    folder = Path(shutil.copytree(folders[kind], tmp_path / "one"))
    other = Path(shutil.copytree(folders[kind], tmp_path / "other"))
    for name in MANIFESTS:
        if (other / name).exists():  # so that every fact differs
            (other / name).write_text((other / name).read_text().replace("owned", "changed"))
    named: dict[str, Any] = {"repo_id": repo_id, "repo_type": "dataset" if kind == "dataset" else "model"}
    HfApi().create_repo(**named)
    for place, tag in ((folder, "v1.0.0"), (other, "v1.1.0")):
        write_card(place, "base_model", "datasets", "license")  # which the Hub refuses
        listing(place, kind, version=tag[1:])
        HfApi().upload_folder(**named, folder_path=str(place))
        HfApi().create_tag(**named, tag=tag)
    write_card(folder)
    commands = [
        ["inspect", str(folder)], ["inspect", f"{repo_id}@v1.0.0"], ["versions", repo_id],
        ["verify", f"{repo_id}@v1.0.0", "--check", "hashes"], ["diff", f"{repo_id}@v1.0.0", f"{repo_id}@v1.1.0"],
        ["diff", str(folder), str(other)], ["push", str(folder), f"{repo_id}-x", "--version", "1.0.0"],
        ["load", str(folder), "--prompt", "x"], ["merge", str(folder), "-o", str(tmp_path / "m")],
    ]  # fmt: skip
    said = 0
    for command in commands:
        for more in ([], ["--json"]):
            done = run_cli(*command, *more)
            harmless(done)
            said += "owned" in done.stdout + done.stderr
            for line in done.stdout.splitlines() if more else ():
                json.loads(line)
    assert said >= 4, "nothing of what was put in is shown, so nothing was tried"


NAMES: list[Any] = [
    "/root/model", "../x", "https://evil.example/m", "a/b/c", "a b", "--upload-pack=x", "x" * 5_000, ["a", "b"], {}, 7,
    "", None, "a/b\nc", "file:///etc", "a/../b", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_a_base_that_is_no_repo_is_a_line_in_every_command(
    folders: dict[Kind, Path], tmp_path: Path, repo_id: str, run_cli: Cli, name: Any
) -> None:
    folder = Path(shutil.copytree(folders["adapter"], tmp_path / "one"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": name, "peft_type": "LORA"})
    )
    run = json.loads((folder / "run.json").read_text())
    run["base"] |= {"name": name, "repo_id": name}
    (folder / "run.json").write_text(json.dumps(run))
    write_card(folder, "base_model", "datasets", "license")
    listing(folder, "adapter")
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=str(folder))
    HfApi().create_tag(repo_id, tag="v1.0.0")
    write_card(folder)
    for command, codes in (
        (["inspect", f"{repo_id}@v1.0.0"], {0}), (["verify", f"{repo_id}@v1.0.0", "--check", "hashes"], {6}),
        (["load", f"{repo_id}@v1.0.0", "--prompt", "x"], {2, 3, 4}), (["diff", str(folder), f"{repo_id}@v1.0.0"], {0}),
        (["merge", f"{repo_id}@v1.0.0", "-o", str(tmp_path / "m")], {2, 3, 4}),
        (["push", str(folder), f"{repo_id}-x", "--version", "1.0.0"], {2, 3, 4, 7}),
    ):  # fmt: skip
        done = run_cli(*command)
        harmless(done)
        assert done.exit_code in codes, (command[0], done.stderr[-500:])
        assert done.exit_code == 0 or len(re.findall(r"^error: ", done.stderr, re.MULTILINE)) == 1
        assert not [line[:99] for line in done.stderr.splitlines() if len(line) > 2_000], command[0]


CONFIGS: list[dict[str, Any]] = [
    {"r": "many"}, {"r": 10**30}, {"r": -1}, {"r": [1]}, {"r": True}, {"r": None}, {"lora_alpha": "x"},
    {"lora_alpha": 10**30}, {"target_modules": 7}, {"target_modules": ["x" * 5_000]}, {"target_modules": [[1]]},
    {"modules_to_save": 7}, {"modules_to_save": {"a": 1}}, {"rank_pattern": [1]}, {"rank_pattern": {"a": "x"}},
    {"rank_pattern": {"a": 10**20}}, {"alpha_pattern": 3}, {"revision": ["x"]}, {"revision": "main; rm -rf ~"},
    {"revision": "$(id)"}, {"revision": "-x"}, {"init_lora_weights": [1]}, {"peft_type": None}, {"peft_type": ["LORA"]},
    {"task_type": 3}, {"bias": {}}, {"use_dora": "x"}, {"base_model_name_or_path": {"a": 1}},
]  # fmt: skip


@pytest.mark.parametrize("fields", CONFIGS, ids=lambda fields: json.dumps(fields)[:40])
def test_a_config_of_the_wrong_kind_is_looked_through(
    folders: dict[Kind, Path], tmp_path: Path, run_cli: Cli, fields: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(folders["adapter"], tmp_path / "one"))
    config = {"peft_type": "LORA", "base_model_name_or_path": "alice/nowhere", "r": 16, "lora_alpha": 32} | fields
    (folder / "adapter_config.json").write_text(json.dumps(config))
    done = run_cli("inspect", str(folder))
    harmless(done)
    assert done.exit_code == 0
    (name,) = fields
    assert name in done.stderr or name in ("use_dora", "r")
    assert "rm -rf" not in "".join(line for line in done.stderr.splitlines() if "`revision`" not in line)
    assert "$(id)" not in "".join(line for line in done.stderr.splitlines() if "`revision`" not in line)
    harmless(run_cli("diff", str(folder), str(folders["adapter"])))


DEEP = "[" * 100_000
FILES: list[tuple[str, str, str]] = [
    ("adapter_config.json", DEEP, "nested more than"),
    ("adapter_config.json", '{"r": NaN}', "NaN instead of a number"),
    ("adapter_config.json", '{"x": [' + "[]," * 3_000_000 + "0]}", "more than the limit of 4,000,000"),
    ("adapter_config.json", "[1]", "is not a JSON object"),
    ("tokenizer.json", DEEP, "nested more than"),
    ("tokenizer.json", '{"model": {"vocab": [' + "[]," * 3_000_000 + "0]}}", "more than 4,000,000 values"),
    ("run.json", DEEP, "nested more than"),
    ("run.json", "{}", "Field required"),
    ("hubdpo.json", DEEP, "nested more than"),
    ("hubdpo.json", '{"a": "' + "x" * 17_000_000 + '"}', "more than the limit of 16,000,000"),
    ("README.md", "---\na: " + DEEP + "\n---\n", "nested more than"),
    ("README.md", "---\nlicense: mit\n---\n" + "<a " * 700_000, "more than the limit of 2,000,000"),
    ("README.md", "---\nlicense: mit\n---\n" + "<!-- " * 80_000, "were checked"),
    (
        "README.md",
        "---\na0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
        + "license: *a9\n---\n",
        "more than 100,000 values, with aliases",
    ),
]


@pytest.mark.parametrize(
    ("name", "text", "says"), FILES, ids=[f"{name} {len(text):,} {says[:20]}" for name, text, says in FILES]
)
def test_looking_at_a_folder_takes_bounded_time_and_memory(
    folders: dict[Kind, Path], tmp_path: Path, name: str, text: str, says: str
) -> None:
    folder = Path(shutil.copytree(folders["adapter"], tmp_path / "one"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / name).write_text(text)
    done = run_limited(["-m", "hubdpo", "inspect", str(folder)], cwd=Path(__file__).parents[2])
    assert done.code in (0, 3), done.err[-1000:]
    assert re.search(says, done.err), done.err[-1000:]
    assert "Traceback" not in done.err
    assert len(done.out + done.err) < 20_000
