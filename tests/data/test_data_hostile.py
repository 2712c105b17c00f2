"""Hostile input: refused or counted, never a traceback, a hang or a lost row; and a kill at any moment."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubdpo import prepare
from hubdpo.data.clean.screen import Screen
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.pairs.example import PreferenceExample, Rejection, ScoredAnswer
from hubdpo.errors import HubdpoError
from tests.data.made import contents, find_converter, lines, rows

CODE = "from hubdpo.cli.app import main; main()"
FIXTURES = Path(__file__).parent / "fixtures"


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Damage bytes the way that disks, editors and bad scripts do."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            changed[at : at + draw.randint(1, 30)] = b""
        elif kind == 1:
            changed[at:at] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 8)))
        elif kind == 2:
            changed[at:at] = draw.choice(
                (b"\n", b"\r", b"\0", b'"', b"\\", b"{", b"]", b"NaN", b"1e999", b"\\ud800", b"\xe2\x80\xa8", b"null")
            )
        elif kind == 3:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 4:
            stop = at + draw.randint(1, 40)
            changed[at:at] = changed[at:stop]
        else:
            del changed[at:]
    return bytes(changed)


ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, "", " ", "\n", "x", "Human:", "\n\nHuman: a\n\nAssistant: b", "[1]", [],
    [[]], [None], {}, {"role": "user"}, [{"role": "user", "content": "x"}], [{"role": None, "content": []}],
    [{"from": 1}], {"messages": []}, ["a", "b"], [1, 2], [{"response": "x", "score": 1}, {"response": [], "score": {}}],
    "[{'role':", '[{"role": "user", "content": 1}]', '{"messages": [], "role": 1}', "<|im_start|>", "x<|im_end|>",
    [{"role": "user", "content": [{"type": "text"}, {"type": []}]}], {"selected": []}, {"bytes": 1, "path": []}, "tie",
    [{"role": "assistant", "content": None, "tool_calls": [1]}], [{"type": "pairwise"}], [[[[[[["a.png"]]]]]]],
]  # fmt: skip


def test_converters_take_any_json_and_raise_only_rejections() -> None:
    draw = random.Random(0)
    samples = [orjson.loads(line) for path in FIXTURES.glob("*.jsonl") for line in path.read_bytes().splitlines()[:6]]
    for _ in range(10_000):
        row = dict(draw.choice(samples))
        if draw.random() < 0.2:
            row[draw.choice(("system", "image", "score_chosen", "score_rejected", "turn", "history"))] = draw.choice(
                ODD
            )
        for key in draw.sample(list(row), min(len(row), draw.randint(1, 3))):
            if draw.random() < 0.3:
                del row[key]
            else:
                row[key] = draw.choice(ODD)
        how = ConvertOptions(pairs=draw.choice(("best-worst", "all", "adjacent")))
        for name, converter in CONVERTERS.items():
            converter.detect(row)
            try:
                made = find_converter(name).bind(how)(Screen(find_converter(name).columns_read(how), (), how).one(row))
                if not isinstance(made, (PreferenceExample, ScoredAnswer)):
                    list(made)
            except Rejection as rejection:
                assert rejection.reason.isidentifier()


@pytest.mark.slow
def test_20_000_damaged_lines_are_each_kept_or_counted(tmp_path: Path) -> None:
    draw = random.Random(1)
    good = [line for path in sorted(FIXTURES.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    data = b"\n".join(mutated(draw.choice(good), draw).replace(b"\n", b" ") for _ in range(20_000))
    # more than one value on a line, or bytes that are no text, are losses like any other
    (tmp_path / "raw.jsonl").write_bytes(data.replace(b"\0", b"\x01") + b"\n" + lines(rows(3)))
    for name in ("preference", "voted", "scored", "sharegpt"):
        manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / name, converter=name)
        assert manifest is not None
        assert manifest.funnel.adds_up()
        losses = (tmp_path / name / "rejected.jsonl").read_bytes().splitlines()
        assert len(losses) == sum(manifest.funnel.dropped.values())
        places = [orjson.loads(loss)["line"] for loss in losses]
        assert places == sorted(places)


def _csv(values: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, ["prompt", "chosen", "rejected"])
    table.writeheader()
    table.writerows(values)
    return text.getvalue().encode()


def _parquet(values: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values), sink)
    return sink.getvalue()


def _arrow(values: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(values)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return sink.getvalue()


KINDS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "jsonl": lines, "json": orjson.dumps, "csv": _csv, "parquet": _parquet, "arrow": _arrow,
    "object.json": lambda values: json.dumps({"data": values}, indent=1).encode(),
    "utf16.csv": lambda values: _csv(values).decode().replace(",", ";").encode("utf-16"),
    "jsonl.gz": lambda values: gzip.compress(lines(values), mtime=0),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_an_error_of_ours_or_a_whole_folder(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    whole = KINDS[kind](rows(40))
    for number in range(200):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(mutated(whole, draw))
        try:
            manifest = prepare(source=str(path), output_dir=tmp_path / "out", num_proc=1, overwrite=True)
        except HubdpoError as problem:
            assert problem.message
            continue
        assert manifest is not None
        assert manifest.funnel.adds_up()


def limited(tmp_path: Path, *arguments: str, megabytes: int = 1000, seconds: int = 60) -> Any:
    """Run prepare with a bound on memory and time."""

    def bound() -> None:
        # OpenBLAS reserves address space a thread; one is enough for what is not used
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))

    command = [sys.executable, "-c", CODE, "prepare", *arguments, "-o", "out", "--num-proc", "1"]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=seconds, preexec_fn=bound, env=env
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brackets", "huge line", "empty lines", "bomb", "deep array", "huge item"])
def test_what_is_made_to_hurt_is_refused_or_counted_in_seconds(tmp_path: Path, name: str) -> None:
    good = lines(rows(5))
    path, expected = tmp_path / "raw.jsonl", 0
    if name == "brackets":
        path.write_bytes(good + b"[" * 100_000 + b"\n" + b'{"a":' * 100_000 + b"\n")
    elif name == "huge line":
        with path.open("wb") as out:
            out.write(good + b'{"prompt": "')
            for _ in range(400):
                out.write(b"x" * (1 << 20))
            out.write(b'", "chosen": "a", "rejected": "b"}\n' + good)
    elif name == "empty lines":
        path.write_bytes(good + b"\n" * 10_000_000 + good)
    elif name == "bomb":
        path = tmp_path / "raw.jsonl.gz"
        path.write_bytes(gzip.compress(b"0" * (200 << 20), 9))
        expected = 3
    elif name == "deep array":
        path = tmp_path / "raw.json"
        path.write_bytes(b"[" + b",".join(good.splitlines()) + b"," + b"[" * 100_000 + b"]" * 100_000 + b"]")
    else:
        path = tmp_path / "raw.json"
        path.write_bytes(b'[{"prompt": "' + b"x" * (100 << 20) + b'"}]')
        expected = 3
    done = limited(tmp_path, path.name)
    assert done.returncode == expected, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    if not expected:
        assert json.loads((tmp_path / "out" / "prepare.json").read_text())["funnel"]["kept"] == 5


@pytest.mark.slow
def test_sigkill_at_50_moments_leaves_the_folder_absent_or_complete(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(60_000)))
    code = f"import hubdpo.data.raw.pieces as r; r.PIECE_BYTES = 300_000; {CODE}"
    command = [sys.executable, "-c", code, "prepare", "raw.jsonl", "--num-proc", "2", "-o"]
    began = time.monotonic()
    subprocess.run([*command, "whole"], cwd=tmp_path, check=True, capture_output=True)
    full = time.monotonic() - began
    whole, draw = contents(tmp_path / "whole"), random.Random(2)
    absent = 0
    for _ in range(50):
        process = subprocess.Popen(
            [*command, "out"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(0.2, 1.1) * full)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "out").exists():
            assert contents(tmp_path / "out") == whole
            (tmp_path / "out").rename(tmp_path / f"seen-{draw.random()}")
        else:
            absent += 1
    assert absent > 5
    subprocess.run([*command, "out"], cwd=tmp_path, check=True, capture_output=True)
    assert contents(tmp_path / "out") == whole
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
