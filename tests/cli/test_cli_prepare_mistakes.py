"""Mistakes of `prepare` and what its hints say to paste: nothing that is there is lost by it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from hubdpo.artefacts.folders.named import another
from hubdpo.cli.app import main
from hubdpo.cli.retyped import put_right
from hubdpo.config import PrepareConfig
from hubdpo.data.prepare.prepare import prepare
from hubdpo.errors import MachineError
from hubdpo.machine.refusals import AGAIN
from tests.data.made import lines, rows

COLUMNS = "--prompt question --chosen good"
MAP = "--map prompt=question,chosen=good,rejected=bad"
PAGE = "https://huggingface.co/datasets/alice/prefs"

# what is typed after `hubdpo prepare`, what the line says, and what is typed instead, or the whole hint after `$ `
MISTAKES = [
    ("-o out", "is needed: files, folders", "-o out odd.jsonl"),
    ("pairs.jsonl new", "`--output-dir` is needed", "pairs.jsonl --output-dir new"),
    ("pairs.jsonl new/ --seed 3", "`--output-dir` is needed", "pairs.jsonl --output-dir new/ --seed 3"),
    ("pairs.jsonl odd.jsonl", "`--output-dir` is needed", "pairs.jsonl odd.jsonl --output-dir data"),
    # folders to write to
    ("pairs.jsonl -o .", "`.` holds files that are not a dataset", "pairs.jsonl --output-dir data"),
    ("pairs.jsonl -o ..", "`..` holds files that are not a dataset", "pairs.jsonl --output-dir data"),
    ("pairs.jsonl -o pairs.jsonl", "`pairs.jsonl` is a file", "pairs.jsonl --output-dir pairs"),
    ("pairs.jsonl -o llama-3.1-8b", "holds files that are not a", "pairs.jsonl --output-dir llama-3.1-8b-2"),
    ("pairs.jsonl -o /proc/x/y", "no folder can be made in `/proc`", "pairs.jsonl --output-dir data"),
    # sources that are something else
    ("my data.jsonl -o out", "the name `my data.jsonl` has spaces", "'my data.jsonl' -o out"),
    ("tiny -o out", "`tiny` is a model, not raw data", "$ ls ."),
    ("tiny/config.json -o out", "`tiny/config.json` is a file of a model, not raw data", "$ ls tiny"),
    ("/dev/null -o out", "/dev/null is a pipe or device", "- -o out"),
    (f"{PAGE} -o out", "is a page of the Hub", "hf://datasets/alice/prefs -o out"),
    (f"{PAGE}/viewer/default/train?row=3 -o out", "is a page of the Hub", "hf://datasets/alice/prefs -o out"),
    (f"{PAGE}/blob/main/a/b.jsonl -o out", "is a page of the Hub", "hf://datasets/alice/prefs/a/b.jsonl -o out"),
    (f"{PAGE}/tree/v1.0 -o out", "is a page of the Hub", "hf://datasets/alice/prefs@v1.0 -o out"),
    # contents
    ("rows.txt -o out", "its content looks like .jsonl", "$ cp rows.txt rows-2.jsonl"),
    ("rows.parquet -o out", "the file is no .parquet, as it is called", "$ cp rows.parquet rows-2.jsonl"),
    ("sft.jsonl -o out", "no converter fits", "$ hubdpo prepare --describe sft.jsonl > sft-data.yaml"),
    (
        "pairs.jsonl odd.jsonl -o out",
        "other sources have other columns",
        "$ hubdpo prepare --describe pairs.jsonl odd.jsonl > pairs-data.yaml",
    ),
    ("old.csv -o out", "perhaps windows-1252", "old.csv -o out --encoding windows-1252"),
    # columns
    (f"odd.jsonl -o out {COLUMNS}", "`chosen` is given without `rejected`", "... --rejected COLUMN"),
    (
        f"odd.jsonl -o out {COLUMNS} --rejected COLUMN",
        "no row has a column `COLUMN`",
        f"odd.jsonl -o out {COLUMNS} --rejected bad",
    ),
    (
        f"odd.jsonl -o out {COLUMNS} --rejected good",
        "`good` is named twice, in `chosen` and `rejected`",
        f"odd.jsonl -o out {COLUMNS} --rejected COLUMN",
    ),
    (
        "odd.jsonl -o out --map prompt=question,chosen=good",
        "`--map` must name prompt, chosen and rejected",
        f"odd.jsonl -o out {MAP}".replace("bad", "COLUMN"),
    ),
    (f"odd.jsonl -o out {MAP}".replace("bad", "COLUMN"), "no row has a column `COLUMN`", f"odd.jsonl -o out {MAP}"),
    (
        f"odd.jsonl -o out {MAP} --prompt question",
        "columns are named both by `--map` and by `--prompt`",
        f"odd.jsonl -o out {MAP}",
    ),
    ("pairs.jsonl -o out --split tset", "no row has a column `tset`", "pairs.jsonl -o out"),
    ("pairs.jsonl -o out --keep scroe", "no row has a column `scroe`", "pairs.jsonl -o out"),
    (
        "pairs.jsonl -o out --keep id --keep chosn",
        "no row has a column `chosn`",
        "pairs.jsonl -o out --keep id --keep chosen",
    ),
    ("pairs.jsonl -o out --language english", "is not a language code: english", "pairs.jsonl -o out --language en"),
    (
        "pairs.jsonl -o out --language zh --language german",
        "is not a language code: german",
        "pairs.jsonl -o out --language zh --language de",
    ),
    ("pairs.jsonl -o out --language klingonian", "is not a language code", "pairs.jsonl -o out"),
    (
        "pairs.jsonl -o out --labels x=1",
        "`--labels` must give first and second a value each",
        "pairs.jsonl -o out --labels first=1,second=2,tie=0",
    ),
]


def write(path: Path, values: list[dict[str, str]]) -> str:
    path.write_bytes(lines(values))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder with raw files, some of them called otherwise than they are, and with names that hints would take."""
    work = tmp_path_factory.mktemp("work")
    pairs = [{**row, "id": str(number)} for number, row in enumerate(rows(20))]
    for name in ("pairs.jsonl", "my data.jsonl", "rows.txt", "rows.jsonl", "rows.parquet"):
        write(work / name, pairs)
    write(work / "sft.jsonl", [{"instruction": "p", "output": "good"}])
    write(work / "odd.jsonl", [{"question": f"p{n}", "good": "yes, gladly", "bad": "no"} for n in range(20)])
    (work / "old.csv").write_bytes("prompt,chosen,rejected\np,caf\xe9 \x93au lait\x94,th\xe9\n".encode("latin-1"))
    os.utime(work / "old.csv", (1, 1))
    newest = (work / "pairs.jsonl").stat().st_mtime + 60
    os.utime(work / "odd.jsonl", (newest, newest))
    (work / "data.yaml").write_text("seed: 1\n")
    (work / "llama-3.1-8b").mkdir()
    (work / "llama-3.1-8b" / "by-hand").touch()
    shutil.copytree(tiny_base, work / "tiny")
    return work


@pytest.mark.parametrize(("line", "says", "meant"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_of_prepare_is_put_right(
    line: str, says: str, meant: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["hubdpo", "prepare", *shlex.split(line)])
    before = sorted(place.rglob("*"))
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err.splitlines()
    assert end.value.code in (2, 3)
    (error,) = [text for text in said if text.startswith("error: ")]
    assert says in error
    hint = meant[2:] if meant.startswith("$ ") else f"hubdpo prepare {meant.replace('...', line)}"
    assert next(text for text in said if text.startswith("hint: ")) == f"hint: {hint}"
    assert sorted(place.rglob("*")) == before


def test_what_may_not_be_read_is_looked_at_before_the_same_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hubdpo", "prepare", "pairs.jsonl", "-o", "out"])
    refused = MachineError("this user may not read `x`", hint=f"ls -ld x, then: {AGAIN}")
    assert put_right(refused, "prepare", PrepareConfig) == ("this user may not read `x`", ["ls -ld x"])


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("run", "run-3"),
        ("./run", "./run-3"),
        ("run/", "run-3"),
        ("rows.jsonl.gz", "rows-2.jsonl.gz"),
        ("llama-3.1-8b", "llama-3.1-8b-2"),
        ("nowhere/run-3", "run-3"),
        ("rows.jsonl.gz/run-3", "run-3"),
        ("s3://bucket/data", "s3://bucket/data-2"),
    ],
)
def test_another_path_is_not_there_yet(path: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run", "run-2", "llama-3.1-8b"):
        Path(name).mkdir()
    Path("rows.jsonl.gz").touch()
    assert another(path) == other


def test_a_dataset_that_is_replaced_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    one, other = write(tmp_path / "one.jsonl", rows(9)), write(tmp_path / "other.jsonl", rows(5))
    told = f"`{out}` will be replaced: it holds 9 pairs of one.jsonl"
    prepare(source=one, output_dir=out)
    prepare(source=one, output_dir=out)
    assert "replaced" not in capsys.readouterr().err
    prepare(source=one, output_dir=out, seed=1)
    assert told in capsys.readouterr().err.splitlines()
    for overwrite in (False, True):
        prepare(source=other, output_dir=out, overwrite=overwrite)
        assert f"warning: {told}; another" in capsys.readouterr().err
        prepare(source=one, output_dir=out)
        assert f"warning: `{out}` will be replaced: it holds 5 pairs" in capsys.readouterr().err
