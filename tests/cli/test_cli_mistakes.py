"""Typical mistakes of new users: each gets one line that names the place, and a hint that can be pasted."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubdpo.artefacts.manifests.manifest import RELEASE_FILE, RUN_FILE
from hubdpo.cli.app import main

LONG = "why is the sky blue? " * 20
"""A prompt that is longer than the name of a file may be."""
TRAIN = "train --model-name-or-path tiny --dataset data -o new"

# what is typed after `hubdpo`, what the line says, and the hint: `...` stands for `hubdpo` and the line as it was typed
MISTAKES = [
    # prepare
    ("prepare pairs.jsonl", "`--output-dir` is needed", "... --output-dir data-2"),
    ("prepare pairs.json -o out", "source not found: pairs.json", "hubdpo prepare pairs.jsonl -o out"),
    (
        "prepare elsewhere/pairs.jsonl -o out",
        "source not found: elsewhere/pairs.jsonl",
        "hubdpo prepare pairs.jsonl -o out",
    ),
    ("prepare alice/prefs -o out", "source not found: alice/prefs", "hubdpo prepare hf://datasets/alice/prefs -o out"),
    (
        "prepare odd.jsonl -o out",
        "no converter fits; the rows have `question`, `good`, `bad`",
        "... --converter columns --map prompt=question,chosen=good,rejected=bad",
    ),
    (
        "prepare reject.jsonl -o out",
        "the rows have `prompt`, `chosen`, `reject`",
        "... --converter columns --map prompt=prompt,chosen=chosen,rejected=reject",
    ),
    (
        "prepare sft.jsonl -o out",
        "DPO needs two answers to each prompt",
        "hubdpo prepare --describe sft.jsonl > sft-data.yaml",
    ),
    (f"prepare {'a' * 150} {'b' * 150} -o out", "source not found: aaa", None),
    ("prepare tiny/adapter_config.json -o out", "source not found: tiny/adapter_config.json", None),
    ("prepare empty.jsonl -o out", "the file is empty: empty.jsonl", "ls -l empty.jsonl"),
    ("prepare notes.txt -o out", "cannot read this kind of file: notes.txt", "hubdpo prepare --help"),
    (
        "prepare pairs.jsonl -o out --map prompt=question,chosen=chosen,rejected=rejected",
        "no row has a column `question`",
        "hubdpo prepare pairs.jsonl -o out --map prompt=prompt,chosen=chosen,rejected=rejected",
    ),
    (
        "prepare pairs.jsonl -o out --converter preferences",
        "unknown converter: preferences",
        "hubdpo prepare pairs.jsonl -o out --converter preference",
    ),
    (
        "prepare pairs.jsonl -o out --license cc-by-sa",
        "not a licence that the Hub knows: cc-by-sa",
        "hubdpo prepare pairs.jsonl -o out --license cc-by-sa-4.0",
    ),
    (
        "prepare pairs.jsonl -o out --test-size 20",
        "a share is below 1, or a percentage: 20%",
        "hubdpo prepare pairs.jsonl -o out --test-size 20%",
    ),
    ("prepare pairs.jsonl -o out --max-length 512", "so it needs --model", "... --model Qwen/Qwen2-7B-Instruct"),
    (
        "prepare pairs.jsonl -o out --model nomodel",
        "model not found: nomodel",
        "hubdpo prepare pairs.jsonl -o out --model tiny",
    ),
    (
        "prepare pairs.jsonl -o out --config rum.yaml",
        "config file not found: rum.yaml",
        "hubdpo prepare pairs.jsonl -o out --config run.yaml",
    ),
    (
        "prepare talks.jsonl -o out --prompt q --chosen a --rejected b --roles 'agnet=assistant'",
        "`--roles` names `agnet`, by whom no message of the first rows is; the speakers are `agent`",
        "hubdpo prepare talks.jsonl -o out --prompt q --chosen a --rejected b --roles agent=assistant",
    ),
    # train and sweep
    (
        "train --config data.yaml",
        "`data.yaml` holds options of `prepare`, not of `train`",
        "hubdpo prepare --config data.yaml",
    ),
    (
        "prepare --config training.yaml",
        "`training.yaml` holds options of `train`, not of `prepare`",
        "hubdpo train --config training.yaml",
    ),
    ("train --model-name-or-path tiny -o new", "`--dataset` is needed", "... --dataset data"),
    (
        "train --dataset data -o new",
        "`--model-name-or-path` is needed",
        "... --model-name-or-path Qwen/Qwen2-7B-Instruct",
    ),
    ("train --model-name-or-path tiny --dataset nodata -o new", "dataset folder not found: nodata", f"hubdpo {TRAIN}"),
    (
        "train --model-name-or-path tiny --dataset=dat -o new",
        "dataset folder not found: dat",
        "hubdpo train --model-name-or-path tiny --dataset=data -o new",
    ),
    (
        "train --model-name-or-path tiny --dataset pairs.jsonl -o new",
        "`pairs.jsonl` is raw data, not a dataset",
        f"hubdpo prepare pairs.jsonl -o pairs-data && hubdpo {TRAIN}".replace("--dataset data", "--dataset pairs-data"),
    ),
    ("train --model-name-or-path tiny --dataset run -o new", "`run` is a run, not a dataset", f"hubdpo {TRAIN}"),
    (
        "train --model-name-or-path tiny --dataset folder -o new",
        "`folder` was not made by `hubdpo prepare`",
        f"hubdpo {TRAIN}",
    ),
    ("train --model-name-or-path nobase --dataset data -o new", "base model not found: nobase", f"hubdpo {TRAIN}"),
    ("train --model-name-or-path data --dataset data -o new", "`data` has no config.json", None),
    (
        "train --model-name-or-path run --dataset data -o new",
        "`run` is an adapter",
        "hubdpo train --dataset data -o new --adapter run",
    ),
    (f"{TRAIN} --adapter norun", "folder not found: norun", f"hubdpo {TRAIN} --adapter run"),
    (
        "train --model-name-or-path tiny --dataset data -o data",
        "`data` holds files that are not a run",
        "hubdpo train --model-name-or-path tiny --dataset data --output-dir data-2",
    ),
    (f"{TRAIN} --resume", "there is no run in `new` to resume", f"hubdpo {TRAIN}"),
    (f"{TRAIN} --loss-type sigmod", "there is no `sigmod`", f"hubdpo {TRAIN} --loss-type sigmoid"),
    (f"{TRAIN} --device cuda", "no CUDA device is found", f"hubdpo {TRAIN} --device cpu"),
    (f"{TRAIN} --optim paged_adamw_8bit", "needs a CUDA device", f"hubdpo {TRAIN} --optim adamw_torch_fused"),
    ("train --model-name-or-path data --dataset tiny -o new", "so they are exchanged", f"hubdpo {TRAIN}"),
    ("train tiny data -o new", "unexpected arguments: `tiny`, `data`", f"hubdpo {TRAIN}"),
    (
        "train data tiny -o new --adapter=x run",
        "unexpected arguments: `data`, `tiny`, `run`",
        "hubdpo train --help",
    ),
    ("train run pairs.jsonl -o new", "unexpected arguments", "hubdpo train --adapter run --dataset pairs.jsonl -o new"),
    ("evaluate run data", "unexpected argument: `data`", "hubdpo evaluate run --dataset data"),
    ("data.yaml", "unknown command: `data.yaml`", "hubdpo prepare --config data.yaml"),
    ("run.yaml -o new", "unknown command: `run.yaml`", "hubdpo train --config run.yaml -o new"),
    ("pairs.jsonl", "unknown command: `pairs.jsonl`", "hubdpo prepare pairs.jsonl -o pairs-data"),
    (
        f"{TRAIN} --learning-rate 5e-6,1e-5",
        "is not a number",
        f"hubdpo {TRAIN} --learning-rate 5e-6,1e-5".replace("train", "sweep", 1),
    ),
    (
        f"{TRAIN} --layers-to-transform 0,1",
        "'0,1' is not a whole number",
        "... --layers-to-transform 0 --layers-to-transform 1".replace("...", f"hubdpo {TRAIN}"),
    ),
    (f"{TRAIN} --layers-to-transform 0 99", "has no layer 99", f"hubdpo {TRAIN} --layers-to-transform 0"),
    (f"{TRAIN} --max-steps 2.5", "'2.5' is not a whole number", f"hubdpo {TRAIN} --max-steps 3"),
    (f"{TRAIN} --dry-run --num-processes 2", "checks one process", f"hubdpo {TRAIN} --dry-run"),
    (f"{TRAIN} --loss-type sigmoid sfp", "there is no `sfp`", f"hubdpo {TRAIN} --loss-type sigmoid --loss-type sft"),
    (f"{TRAIN} --model-revision v9", "`tiny` is a folder, which has no revision `v9`", f"hubdpo {TRAIN}"),
    (f"{TRAIN} --chat-template chatlm", "neither a Jinja file nor a format", f"hubdpo {TRAIN} --chat-template chatml"),
    ("sweep --model-name-or-path tiny --dataset data -o new", "nothing to sweep", "... --beta 0.05 --beta 0.1"),
    (
        "sweep --model-name-or-path tiny --dataset nodata -o new --beta 0.1 0.2",
        "dataset folder not found: nodata",
        "hubdpo sweep --model-name-or-path tiny --dataset data -o new --beta 0.1 0.2",
    ),
    # evaluate, merge, export, adopt, load, view, inspect, diff
    ("evaluate", "is needed: a run folder, a release", "hubdpo evaluate run"),
    ("evaluate data", "`data` is a dataset, not a run", "hubdpo evaluate run"),
    ("evaluate pairs.jsonl --max-pairs 9", "`pairs.jsonl` is a file, not a run", "hubdpo evaluate run --max-pairs 9"),
    ("evaluate rum", "folder not found: rum", "hubdpo evaluate run"),
    ("evaluate tiny", "`tiny` is a whole model, and names no base", "... --model-name-or-path Qwen/Qwen2-7B-Instruct"),
    ("evaluate run --dataset nodata", "dataset folder not found: nodata", "hubdpo evaluate run --dataset data"),
    ("merge run", "`--output-dir` is needed", "... --output-dir merged"),
    ("merge data -o new", "`data` is a dataset, not a run or an adapter", "hubdpo merge run -o new"),
    ("export run -o x.gguf", "no format is given for the file", "... --gguf"),
    ("export data --gguf -o x.gguf", "`data` is a dataset", "hubdpo export run --gguf -o x.gguf"),
    ("adopt data -o new", "`data` is a dataset, not an adapter", "hubdpo adopt USER/NAME -o new"),
    ("adopt run -o new", "so there is nothing to adopt", "hubdpo evaluate run"),
    ("load data hi", "`data` is a dataset, not a run or an adapter", "hubdpo load run hi"),
    (
        "load 'who are you?' run --max-new-tokens 9",
        "the adapter is named first, and then the prompt",
        "hubdpo load run 'who are you?' --max-new-tokens 9",
    ),
    ("load run ''", "the prompt is empty", "hubdpo load run 'Hello! Who are you?'"),
    (f"load rnu '{LONG}'", "folder not found: rnu", f"hubdpo load run '{LONG}'"),
    ("load rnu 'who are you?'", "folder not found: rnu", "hubdpo load run 'who are you?'"),
    (
        "view pairs.jsonl",
        "`pairs.jsonl` is a file",
        "hubdpo prepare pairs.jsonl -o pairs-data && hubdpo view pairs-data",
    ),
    ("view dta", "folder not found: dta", "hubdpo view data"),
    ("inspect norun", "folder not found: norun", "hubdpo inspect run"),
    ("diff data dta", "folder not found: dta", "hubdpo diff data deep/data"),
    # push, verify, versions
    ("push data alice/x", "`--version` is needed", "... --version 0.1.0"),
    (f"push alice/x {'w' * 400} --version 1.0.0", "a repo is USER/NAME", None),
    ("push alice/x data", "the folder is named first, and then the repo", "hubdpo push data alice/x"),
    (
        "push alice/x ./data --version 1.0.0",
        "the folder is named first, and then the repo",
        "hubdpo push ./data alice/x --version 1.0.0",
    ),
    ("push data", "USER/NAME` ", "hubdpo push data USER/NAME --version 0.1.0"),
    (
        "push pairs.jsonl alice/x --version 1.0.0",
        "`pairs.jsonl` is a file",
        "hubdpo prepare pairs.jsonl -o pairs-data && hubdpo push pairs-data alice/x --version 1.0.0",
    ),
    ("push rnu alice/x --version 1.0.0", "folder not found: rnu", "hubdpo push run alice/x --version 1.0.0"),
    ("push tiny alice/x --version 1.0.0", "`tiny` is a model, not a run", "hubdpo push run alice/x --version 1.0.0"),
    ("push data alice/x --version 1", "a version is three numbers", "hubdpo push data alice/x --version 1.0.0"),
    ("push data x --version 1.0.0", "a repo is USER/NAME: 'x'", "hubdpo push data USER/x --version 1.0.0"),
    (
        "push data https://huggingface.co/datasets/alice/x --version 1.0.0",
        "a repo is USER/NAME",
        "hubdpo push data alice/x --version 1.0.0",
    ),
    ("HF_TOKEN= push data alice/x --version 1.0.0", "you are not logged in", "hf auth login"),
    (
        "push data 'alice/my prefs' --version 1.0.0",
        "a repo is USER/NAME",
        "hubdpo push data alice/my-prefs --version 1.0.0",
    ),
    (
        "push data alice/x --version 1.0.0 --license cc0-1.0",
        "`--license` is not for datasets: the card of `data` states `mit`, as given to `prepare`",
        "hubdpo push data alice/x --version 1.0.0",
    ),
    (
        "push data alice/x --version 1.0.0 --base-model a/b",
        "is not for datasets",
        "hubdpo push data alice/x --version 1.0.0",
    ),
    ("serve-hub pairs.jsonl --port 0", "`pairs.jsonl` is a file", "hubdpo serve-hub hub --port 0"),
    (
        "serve-hub hub --token alice",
        "a token is not NAME:VALUE",
        "--token me:hf_local_token:write",
    ),
    ("serve-hub hub --token hf_x", "a token is not NAME:VALUE", "--token me:hf_local_token:write"),
    ("serve-hub hub --gc --list-tokens", "exclude each other", "hubdpo serve-hub hub --gc --dry-run"),
    ("serve-hub hub --dry-run", "--dry-run belongs to --gc", "hubdpo serve-hub hub --dry-run --gc"),
    ("verify data", "`data` is a folder", "hubdpo push data USER/NAME --version 0.1.0"),
    ("versions data", "`data` is a folder", "hubdpo push data USER/NAME --version 0.1.0"),
]

IMPORTED_LATE = (
    "torch",
    "datasets",
    "transformers",
    "trl",
    "peft",
    "pyarrow",
    "numpy",
    "huggingface_hub",
    "matplotlib",
)
AT_THE_DOOR = [
    line
    for line, says, _ in MISTAKES
    if re.search(r"folder not found|is raw data|is a file|is a (dataset|run|model), not", says)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, dataset_dir: Path, tiny_base: Path) -> Path:
    """A folder with raw files, a dataset, a base and what looks like a run."""
    work = tmp_path_factory.mktemp("work")
    rows = {
        "pairs": {"prompt": "p{}", "chosen": "good", "rejected": "bad"},
        "odd": {"question": "p{}", "good": "yes, gladly", "bad": "no"},
        "reject": {"prompt": "p{}", "chosen": "good", "reject": "bad"},
        "sft": {"instruction": "p{}", "output": "good"},
        "talks": {"q": "p{}", "a": [{"role": "agent", "content": "good"}], "b": [{"role": "agent", "content": "bad"}]},
    }
    for name, row in rows.items():
        lines = [json.dumps(row).replace("{}", str(number)) + "\n" for number in range(20)]
        (work / f"{name}.jsonl").write_text("".join(lines))
    (work / "empty.jsonl").touch()
    (work / "notes.txt").write_text("by hand")
    (work / "run.yaml").write_text("seed: 1\n")
    (work / "training.yaml").write_text("dataset: data\nlearning-rate: 1e-5\n")
    (work / "data.yaml").write_text("source: pairs.jsonl\ntest-size: 0.1\nseed: 1\n")
    (work / "folder").mkdir()
    shutil.copytree(dataset_dir, work / "deep" / "data", ignore=shutil.ignore_patterns(RELEASE_FILE))
    shutil.copytree(dataset_dir, work / "data", ignore=shutil.ignore_patterns(RELEASE_FILE))  # other tests publish it
    shutil.copytree(tiny_base, work / "tiny")
    (work / "run").mkdir()
    (work / "run" / RUN_FILE).write_text("{}")
    (work / "run" / "adapter_config.json").write_text("{}")
    (work / "stopped").mkdir()
    (work / "stopped" / RUN_FILE).write_text('{"status": "running"}')
    os.utime(work / "stopped", (2_000_000_000, 2_000_000_000))  # the newest
    return work


@pytest.mark.parametrize(("line", "says", "hint"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_one_line_and_a_hint_to_paste(
    line: str,
    says: str,
    hint: str | None,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(line)
    if words[0] == "HF_TOKEN=":
        monkeypatch.delenv("HF_TOKEN")
        words = words[1:]
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["hubdpo", *words])
    before = sorted(place.rglob("*"))
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code in (2, 3, 4)
    assert said.out == ""
    errors = [text for text in said.err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    hints = [text.removeprefix("hint: ") for text in said.err.splitlines() if text.startswith("hint: ")]
    assert len(hints) >= 1
    if hint is not None:
        assert hints == [hint.replace("...", shlex.join(["hubdpo", *words]))]
    for each in hints:
        assert_parses(each, monkeypatch)
    assert sorted(place.rglob("*")) == before


def assert_parses(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the hubdpo commands of a hint are complete: `--help` at their end is reached."""
    for part in command.partition(" > ")[0].split(" && "):
        words = shlex.split(part)
        if words[0] == "hubdpo":
            monkeypatch.setattr(sys, "argv", [*words, "--help"])
            with pytest.raises(SystemExit) as end:
                main()
            assert end.value.code in (0, None)


def test_what_was_meant_is_found_beside_a_folder_that_this_user_may_not_see(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = os.stat

    def forbidden(path: Any, *others: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and Path(os.fsdecode(path)).parent.name == "folder":
            raise PermissionError(13, "Permission denied")
        return status(path, *others, **options)

    monkeypatch.setattr(os, "stat", forbidden)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["hubdpo", "evaluate", "rum"])
    with pytest.raises(SystemExit):
        main()
    assert "hint: hubdpo evaluate run\n" in capsys.readouterr().err


def test_a_wrong_folder_is_told_before_heavy_imports(place: Path) -> None:
    assert len(AT_THE_DOOR) > 15
    code = (
        "import json, shlex, sys\n"
        "from hubdpo.cli.app import main\n"
        "found = {}\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['hubdpo', *shlex.split(line)]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        f"        found[line] = [name for name in {IMPORTED_LATE} if name in sys.modules]\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(AT_THE_DOOR)], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {line: [] for line in AT_THE_DOOR}


def test_an_output_is_not_put_right(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["hubdpo", *shlex.split("train -o new --dataset new --model-name-or-path tiny")])
    with pytest.raises(SystemExit):
        main()
    assert "hint: hubdpo train -o new --dataset data --model" in capsys.readouterr().err


def test_a_hint_of_two_ways_is_two_lines(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dataset_dir: Path
) -> None:
    monkeypatch.chdir(place)
    (place / "again").mkdir()
    shutil.copytree(dataset_dir, place / "again" / "data")
    (place / "again" / "data" / "README.md").write_text("by hand")
    monkeypatch.setattr(sys, "argv", ["hubdpo", "prepare", "pairs.jsonl", "-o", "again/data"])
    with pytest.raises(SystemExit):
        main()
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint: ")] == [
        "hint: hubdpo prepare pairs.jsonl --output-dir again/data-2",
        "hint: hubdpo prepare pairs.jsonl -o again/data --overwrite",
    ]
    shutil.rmtree(place / "again")
