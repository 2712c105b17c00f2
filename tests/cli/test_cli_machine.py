"""Commands on a machine that refuses: one line, exit code 9, nothing half done; and streams that are closed or full."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hubdpo import console

HUBDPO = f"{shlex.quote(sys.executable)} -c 'from hubdpo.cli.app import main; main()'"


def shell(line: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `hubdpo` is the command."""
    return subprocess.run(
        ["bash", "-c", f"hubdpo() {{ {HUBDPO} \"$@\"; }}\n{line}"], cwd=cwd, env={**os.environ, **env},
        capture_output=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    row = '{"prompt": "p%d", "chosen": "good %s", "rejected": "bad"}\n'
    (tmp_path / "raw.jsonl").write_text("".join(row % (i, "x" * 500) for i in range(20)))
    return tmp_path


REFUSED: dict[str, tuple[str, list[str]]] = {
    "a limit on files": (
        "ulimit -f 2; hubdpo prepare raw.jsonl -o out",
        ["error: no file may be larger than 2.0 kB here; the output folder is unchanged", "hint: ulimit -f unlimited"],
    ),
    "a long name": (f"hubdpo prepare raw.jsonl -o {'n' * 300}", ["the name is too long", "; use a shorter name"]),
    "a part that is a file": (
        "hubdpo prepare raw.jsonl -o raw.jsonl/out",
        ["raw.jsonl` is a file, not a folder", "hint: hubdpo prepare raw.jsonl --output-dir out\n"],
    ),
    "a place where nothing can be made": (
        "hubdpo prepare raw.jsonl -o /sys/out",
        ["error: this user cannot write in `/sys`\n", "hint: hubdpo prepare raw.jsonl --output-dir data\n"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_machine_refuses_is_one_line_and_leaves_nothing(work: Path, name: str) -> None:
    line, words = REFUSED[name]
    before = sorted(work.rglob("*"))
    done = shell(line, work)
    talk = done.stderr.decode()
    assert done.returncode == 9, talk
    assert "Traceback" not in talk
    assert len([line for line in talk.splitlines() if line.startswith("error: ")]) == 1
    for word in words:
        assert word in talk
    assert sorted(work.rglob("*")) == before


FULL = "error: the result cannot be written to stdout: No space left on device"
STREAMS: dict[str, tuple[str, int, str, bool]] = {
    "all well": ("hubdpo prepare raw.jsonl -o out > f", 0, "", True),
    "a full stdout": ("hubdpo prepare raw.jsonl -o out > /dev/full", 9, FULL, True),
    "a closed stdout": ("hubdpo prepare raw.jsonl -o out >&-", 9, "written to stdout: it is closed", True),
    "nobody reads": ("set -o pipefail; hubdpo prepare raw.jsonl -o out | true", 9, "hint: hubdpo train", True),
    "a full stderr": ("hubdpo prepare raw.jsonl -o out 2> /dev/full", 0, "", True),
    "a closed stderr": ("hubdpo prepare raw.jsonl -o out 2>&-", 0, "", True),
    "all closed": ("hubdpo prepare raw.jsonl -o out <&- >&- 2>&-", 9, "", True),
    "an error into a full stderr": ("hubdpo prepare none.jsonl -o out 2> /dev/full", 3, "", False),
    "an error and a full stdout": ("hubdpo prepare none.jsonl -o out > /dev/full", 3, "none.jsonl", False),
    "a usage error into a full stderr": ("hubdpo prepare --nonsense 2> /dev/full", 2, "", False),
    "help for nobody": ("set -o pipefail; hubdpo --help | true", 9, "", False),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_takes_nothing_stops_no_work(work: Path, name: str) -> None:
    line, code, word, made = STREAMS[name]
    done = shell(line, work)
    talk = done.stderr.decode()
    assert done.returncode == code, talk
    assert word in talk
    assert "Traceback" not in talk
    assert "Exception ignored" not in talk
    assert (work / "out" / "prepare.json").exists() == made


def test_a_file_of_ours_never_gets_the_number_of_a_closed_stream(work: Path) -> None:
    assert shell("hubdpo prepare raw.jsonl -o whole", work).returncode == 0
    assert shell("hubdpo prepare raw.jsonl -o out <&- >&- 2>&-", work).returncode == 9
    for file in sorted((work / "whole").glob("**/*.parquet")):
        assert (work / "out" / file.relative_to(work / "whole")).read_bytes() == file.read_bytes()


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize("way", ["", "--json"])
def test_letters_that_a_stream_has_not_are_spelled(work: Path, encoding: str, way: str) -> None:
    folder = work / "b\u00fccher \u4e66 \U0001f600"
    folder.mkdir()
    (work / "raw.jsonl").rename(folder / "raw.jsonl")
    done = shell(
        f"hubdpo prepare */raw.jsonl -o {shlex.quote(str(folder / 'out'))} {way}", work, PYTHONIOENCODING=encoding
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u4e66" in done.stdout
    if way:
        assert json.loads(done.stdout.decode(encoding))["output_dir"] == str(folder / "out")


LOCALE = "error: the locale (ascii) cannot encode"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hubdpo prepare raw.jsonl -o b\u00fccher", "`b\\xfccher`"),
        ("hubdpo prepare b\u00fccher/raw.jsonl -o out", "`b\\xfccher/raw.jsonl`"),
        ("hubdpo prepare b*/ -o out", "`b\\xfccher/`"),
        ("cd b*; hubdpo prepare . -o out", "the name of a file"),
        ("hubdpo prepare --config b.yaml", "`b\\xfccher"),
        ("hubdpo inspect b\u00fccher", "`b\\xfccher`"),
    ],
)
def test_a_locale_that_cannot_spell_a_path_is_told(work: Path, line: str, words: str) -> None:
    (work / "b\u00fccher").mkdir()
    shutil.copy(work / "raw.jsonl", work / "b\u00fccher" / "\u4e66.jsonl")
    (work / "b.yaml").write_text("source: [raw.jsonl]\noutput-dir: b\u00fccher/new\n")
    done = shell(line, work, **ASCII)
    talk = done.stderr.decode()
    assert (done.returncode, "Traceback" in talk) == (9, False), talk
    assert f"{LOCALE} {words}" in talk
    assert "hint: export PYTHONUTF8=1" in talk


def test_json_keeps_its_letters_where_the_stream_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    with console.written_as(console.Format.json):
        console.result("", {"name": "b\u00fccher"})
    assert capsys.readouterr().out == '{"name": "b\u00fccher"}\n'
