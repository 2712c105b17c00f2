"""The engine: the same bytes whoever works and however the input is cut, and a folder that is whole or absent."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import zstandard

from hubdpo import load_preferences, prepare
from hubdpo.data.clean import decide
from hubdpo.data.clean.decide import is_test
from hubdpo.data.prepare import shards
from hubdpo.data.raw import pieces
from hubdpo.data.raw import rows as raw_rows
from hubdpo.data.raw.pieces import Piece, PieceReader, cut
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.data.raw.text.json_layout import Layout
from hubdpo.errors import ConfigError, DataError
from tests.data.made import contents, lines, rows

CODE = "from hubdpo.cli.app import main; main()"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a small file into many pieces and shards."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4000)
    monkeypatch.setattr(raw_rows, "BLOCK", 1000)
    monkeypatch.setattr(shards, "LEAST_SHARD", 2000)


MESSY = [
    *rows(300),
    *rows(20),
    {"prompt": "p", "chosen": "", "rejected": "x"},
    [1],
    {"prompt": "é 名\u2028", **rows(2)[1]},
]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, small_pieces: None, workers: int) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(MESSY) + b"{broken\n\n" + lines(rows(310)[300:]))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "one", num_proc=1, test_size=0.3)
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "more", num_proc=workers, test_size=0.3)
    assert contents(tmp_path / "one") == contents(tmp_path / "more")
    assert len(list((tmp_path / "one" / "data").iterdir())) > 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path, seed: str) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(MESSY))
    env = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", CODE, "prepare", "raw.jsonl", "-o", f"out{seed}", "--dedupe", "near"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "here", dedupe="near")
    assert contents(tmp_path / f"out{seed}") == contents(tmp_path / "here")


def test_the_rows_keep_their_order(tmp_path: Path, small_pieces: None) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(500)))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    prompts = [row["prompt"][0]["content"] for row in load_preferences(tmp_path / "out")["train"]]
    assert prompts == [f"question {i}" for i in range(500)]


def test_losses_are_named_by_the_line_of_the_file(tmp_path: Path, small_pieces: None) -> None:
    data = lines(rows(200)) + b"\n\n{broken\n" + lines(rows(210)[200:]) + lines(rows(1)) + lines(rows(230)[210:])
    (tmp_path / "raw.jsonl").write_bytes(data)
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    losses = [orjson.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_bytes().splitlines()]
    assert [(loss["line"], loss["reason"]) for loss in losses] == [(203, "malformed_line"), (214, "duplicate_pair")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"{}\n{}\n{}\n",
        b"{}\n\n\n{}",
        b"\xef\xbb\xbf{}\r\n{}\r\n",
        b"{}\n" + b'{"a": "' + b"x" * 40 + b'"}\n{}',
        b"\n" * 9,
    ],
)
def test_pieces_together_are_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, size: int) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_bytes(data)
    monkeypatch.setattr(pieces, "PIECE_BYTES", size)
    monkeypatch.setattr(raw_rows, "BLOCK", max(size // 2, 1))
    found, base = [], 0
    for piece in cut(RawFile(str(path), "raw.jsonl", str(path))):
        reader = PieceReader(piece, max_line_bytes=1 << 20)
        found += [(base + row.line, row.value) for row in reader]
        base += reader.lines
    texts = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert found == [(i, orjson.loads(text)) for i, text in enumerate(texts, start=1) if text.strip()]


@pytest.mark.parametrize("size", [5, 60, 1000])
def test_a_line_beyond_the_limit_is_one_loss_wherever_pieces_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_bytes(b"{}\n" + b"x" * 500 + b"\n{}\n" + b"y" * 300)
    monkeypatch.setattr(pieces, "PIECE_BYTES", size)
    monkeypatch.setattr(raw_rows, "BLOCK", 64)
    found = [
        row.problem
        for piece in cut(RawFile(str(path), "raw.jsonl", str(path)))
        for row in PieceReader(piece, max_line_bytes=100)
    ]
    assert found == [None, "line_too_long", None, "line_too_long"]


@pytest.mark.parametrize("block", [1, 3, 17, 1 << 20])
def test_an_array_is_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    values = [{"a": 'x"]},{[\\'}, {"b": [[1], {"c": "é名"}]}, {}, {"d": "\\"}]
    path = tmp_path / "raw.json"
    path.write_text("\ufeff" + json.dumps(values, indent=1, ensure_ascii=False))
    monkeypatch.setattr(raw_rows, "BLOCK", block)
    piece = Piece(RawFile(str(path), "raw.json", str(path)), 0, 0, layout=Layout.ARRAY)
    assert [row.value for row in PieceReader(piece, max_line_bytes=1000)] == values


@pytest.mark.parametrize(
    ("text", "message"),
    [("[{}, {}", "it ends after item 1"), ("[{}] x", "text after its end"), ('[{"a": "x', "it ends after item 0")],
)
def test_a_broken_array_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "raw.json").write_text(text)
    with pytest.raises(DataError, match=message):
        prepare(source=str(tmp_path / "raw.json"), output_dir=tmp_path / "out", converter="preference")


def test_one_broken_item_of_an_array_is_one_loss(tmp_path: Path) -> None:
    items = [json.dumps(row) for row in rows(3)]
    (tmp_path / "raw.json").write_text(f"[{items[0]}, {{NaN}}, 7, {items[1]}]")
    manifest = prepare(source=str(tmp_path / "raw.json"), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.funnel.dropped == {"malformed_line": 1, "not_an_object": 1}


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_input_gives_the_same_rows(tmp_path: Path, small_pieces: None, ending: str, pack: Any) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(300)))
    (tmp_path / f"raw.jsonl{ending}").write_bytes(pack(lines(rows(150))) + pack(lines(rows(300)[150:])))
    for name in ("raw.jsonl", f"raw.jsonl{ending}"):
        prepare(source=str(tmp_path / name), output_dir=tmp_path / name.replace(".", "-"), test_size=0)
    plain, packed = (load_preferences(tmp_path / f"raw-jsonl{e}") for e in ("", ending.replace(".", "-")))
    assert plain["train"].to_list() == packed["train"].to_list()


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_bomb_is_refused(tmp_path: Path, ending: str, pack: Any) -> None:
    (tmp_path / f"raw.jsonl{ending}").write_bytes(pack(b" " * (80 << 20)))
    with pytest.raises(DataError, match="200 times its size"):
        prepare(source=str(tmp_path / f"raw.jsonl{ending}"), output_dir=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [f"raw.jsonl{ending}"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_cut_off_compressed_file_is_an_error(tmp_path: Path, ending: str) -> None:
    whole = gzip.compress(lines(rows(999))) if ending == ".gz" else zstandard.compress(lines(rows(999)))
    (tmp_path / f"raw.jsonl{ending}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="raw.jsonl"):
        prepare(source=str(tmp_path / f"raw.jsonl{ending}"), output_dir=tmp_path / "out")


def test_an_address_of_fsspec_is_a_source_and_a_target(tmp_path: Path, small_pieces: None) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(MESSY))
    (tmp_path / "raw2.jsonl.gz").write_bytes(gzip.compress(lines(rows(340)[300:])))
    prepare(source=[str(tmp_path / "raw*.jsonl*")], output_dir=tmp_path / "local", test_size=0.3)
    url = f"file://{tmp_path}"
    prepare(source=[f"{url}/raw*.jsonl*"], output_dir=f"{url}/remote", test_size=0.3)
    assert contents(tmp_path / "remote") == contents(tmp_path / "local")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "raw.jsonl", "raw2.jsonl.gz", "remote"]


def test_behind_an_address_only_our_own_folder_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(9)))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not a dataset"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=f"file://{tmp_path}/thesis", overwrite=True)
    assert (tmp_path / "thesis" / "thesis.tex").exists()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / ".hubdpo-unfinished").touch()
    (tmp_path / "unfinished" / "part").touch()
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=f"file://{tmp_path}/unfinished")
    assert not (tmp_path / "unfinished" / "part").exists()
    assert (tmp_path / "unfinished" / "prepare.json").exists()


def test_an_unknown_protocol_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nosuch://"):
        prepare(source="nosuch://bucket/a.jsonl", output_dir=tmp_path / "out")


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(MESSY) * 3)
    code = (
        "import hubdpo.data.raw.pieces as r; r.PIECE_BYTES = 9000\n"
        "from hubdpo import prepare\n"
        f"place = 'file://{tmp_path}'\n"
        "for engine in ('local', 'ray'):\n"
        "    prepare(source=[f'{place}/raw.jsonl'], output_dir=f'{place}/{engine}', engine=engine, num_proc=2)\n"
    )
    env = {**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def test_without_ray_its_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(9)))
    with pytest.raises(ConfigError, match="not installed") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", engine="ray")
    assert "pip install" in (caught.value.hint or "")


def test_decisions_in_parts_are_the_same_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(MESSY * 2))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "once")
    monkeypatch.setattr(decide, "ROWS_AT_ONCE", 50)
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "parts")
    assert contents(tmp_path / "once") == contents(tmp_path / "parts")


@pytest.mark.parametrize("size", [0.0, 0.05, 0.5, 0.99])
def test_the_held_out_share_is_what_was_asked_for(size: float) -> None:
    keys = np.random.default_rng(0).integers(0, 2**63, 20_000).astype(np.uint64)
    assert abs(is_test(keys, size, 3).mean() - size) < 0.01


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(200_000)))
    code = f"import hubdpo.data.raw.pieces as r; r.PIECE_BYTES = 100_000; {CODE}"
    command = [sys.executable, "-c", code, "prepare", "raw.jsonl", "-o", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (pids := children.read_text().split()):
        assert process.poll() is None
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(_lives(int(pid)) for pid in pids):
        assert time.monotonic() < deadline


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
