"""The cache of token ids: equal rows whoever encoded them, one file for all processes, and nothing half-written."""

from __future__ import annotations

import errno
import multiprocessing
import shutil
import signal
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from hubdpo import prepare
from hubdpo.artefacts.folders.cache import cache_folder
from hubdpo.config.chat_template import NAMES
from hubdpo.data.encoded import encoded as module
from hubdpo.data.encoded import encoding as of_parts
from hubdpo.data.encoded.encoded import EncodedSplit, encoded
from hubdpo.data.encoded.encoding import Encoding
from hubdpo.data.encoded.rows import LISTS, TokenRows
from hubdpo.data.load import Split, load_preferences, open_dataset
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.errors import MachineError
from hubdpo.model.tokenizer.load import read_tokenizer

PAIRS = 2500
LIMITS = {"max_length": 64, "prompt_budget": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three row groups, with pairs that are cut and pairs that are dropped at 64 tokens."""
    raw = tmp_path_factory.mktemp("encoded") / "raw.jsonl"
    long = "word " * 60
    raw.write_bytes(
        b"".join(
            orjson.dumps(
                {
                    "prompt": f"What is {i}?" + (long if i % 50 == 7 else ""),
                    "chosen": (long if i % 100 == 3 else "") + f"It is {i}.",
                    "rejected": (long if i % 100 == 3 else "") + "No idea.",
                }
            )
            + b"\n"
            for i in range(PAIRS)
        )
    )
    prepare(source=[str(raw)], output_dir=raw.parent / "out", test_size=0, license="mit")
    return raw.parent / "out"


@pytest.fixture(scope="module")
def split(folder: Path) -> Split:
    return open_dataset(folder)[0]["train"]


@pytest.fixture
def encoding(tiny_base: Path) -> Encoding:
    return Encoding.of(tiny_base, template=None, template_kwargs=None, **LIMITS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(of_parts, "ROWS_PER_PART", 1000)
    return tmp_path / "cache" / "tokens"


def plain(rows: TokenRows) -> list[dict[str, Any]]:
    return [{name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in row.items()} for row in rows]


def said(found: EncodedSplit) -> Any:
    return sorted(found.account.counts.items()), found.account.end_of_turn, found.account.remarks()


def test_rows_are_those_of_the_encoder_whatever_the_number_of_workers(
    folder: Path, split: Split, encoding: Encoding, tiny_base: Path, cache: Path
) -> None:
    encoder = PairTokenizer(read_tokenizer(tiny_base), **LIMITS)
    expected = encoder.rows(load_preferences(folder)["train"])
    assert len(expected) < PAIRS, "some are dropped, so that row numbers have gaps"
    for workers in (1, 3):
        found = encoded(split, encoding, num_proc=workers)
        assert plain(found.rows) == expected
        assert said(found) == said(EncodedSplit(found.rows, encoder))
        shutil.rmtree(cache)


def test_a_warm_start_has_the_rows_and_the_sentences_of_the_cold_one(
    split: Split, encoding: Encoding, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cold = encoded(split, encoding)
    assert cold.account.dropped() and cold.account.remarks() != cold.account.dropped()
    assert "tokens" not in capsys.readouterr().err
    monkeypatch.setattr(module, "engine_for", None)
    monkeypatch.setattr(module, "encoder_of", None)
    warm = encoded(split, encoding)
    assert plain(warm.rows) == plain(cold.rows)
    assert said(warm) == said(cold)
    (place,) = cache.iterdir()
    assert f"tokens    {len(cold.rows):,} pairs of `train` from {place}" in capsys.readouterr().err.replace("\n", "")
    assert warm.rows.fingerprint == cold.rows.fingerprint == TokenRows.of(plain(cold.rows)).fingerprint


def test_only_the_first_rows_are_encoded_where_a_limit_says_so(
    folder: Path, split: Split, encoding: Encoding, cache: Path
) -> None:
    whole, some = encoded(split, encoding), encoded(split, encoding, limit=1234)
    assert some.account.counts["rows"] == 1234
    assert plain(some.rows) == [row for row in plain(whole.rows) if row["row"] < 1234]
    assert encoded(split, encoding, limit=10**6).rows.fingerprint == whole.rows.fingerprint
    assert len(list(cache.iterdir())) == 2


def test_what_the_ids_depend_on_decides_the_file(
    split: Split, encoding: Encoding, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(tiny_base, tmp_path / "other"))
    same = Encoding.of(other, template=None, template_kwargs=None, **LIMITS).key(split, 10)
    assert same == encoding.key(split, 10), "a base is known by its files, not by its place"
    with (other / "chat_template.jinja").open("a") as template:
        template.write(" ")
    keys = {
        encoding.key(split, 10),
        encoding.key(split, 11),
        encoding.key(replace(split, digests=("0" * 64,)), 10),
        replace(encoding, max_length=63).key(split, 10),
        replace(encoding, prompt_budget=47).key(split, 10),
        Encoding.of(other, template=None, template_kwargs=None, **LIMITS).key(split, 10),
        *(Encoding.of(tiny_base, template=name, template_kwargs=None, **LIMITS).key(split, 10) for name in NAMES),
        Encoding.of(tiny_base, template=None, template_kwargs={"a": 1}, **LIMITS).key(split, 10),
    }
    assert len(keys) == 7 + len(NAMES)
    monkeypatch.setattr(of_parts, "_code", lambda: {"hubdpo": "9"})
    assert encoding.key(split, 10) not in keys


@pytest.mark.parametrize("harm", ["cut", "changed", "facts", "gone"])
def test_a_damaged_file_is_noticed_and_made_again(
    harm: str, split: Split, encoding: Encoding, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = plain(encoded(split, encoding, limit=300).rows)
    (place,) = cache.iterdir()
    ids = place / "chosen_ids.npy"
    data = bytearray(ids.read_bytes())
    data[-1] ^= 1
    match harm:
        case "cut":
            ids.write_bytes(data[:-40])
        case "changed":
            ids.write_bytes(data)
        case "facts":
            (place / "facts.json").write_text("{")
        case "gone":
            ids.unlink()
    again = encoded(split, encoding, limit=300)
    assert plain(again.rows) == rows
    assert "are damaged, and are made again" in " ".join(capsys.readouterr().err.split())
    encoded(split, encoding, limit=300)
    assert "are damaged" not in " ".join(capsys.readouterr().err.split())


def test_a_cache_that_cannot_be_written_is_told_of_and_nothing_is_left(
    split: Split, encoding: Encoding, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cache.parent.write_text("a file")
    found = encoded(split, encoding, limit=300)
    assert "the tokens of `train` cannot be kept for later runs: " in " ".join(capsys.readouterr().err.split())
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(plain(found.rows)) == found.account.counts["pairs"], "mapped files stay without a name"
    monkeypatch.setattr("tempfile.tempdir", str(cache.parent / "x"))
    with pytest.raises(MachineError, match="no disk takes the tokens of `train`") as caught:
        encoded(split, encoding, limit=300)
    assert "HUBDPO_CACHE=DIR" in str(caught.value.hint)


@pytest.mark.parametrize("home", ["dangling", "/proc/nothere"])
def test_a_cache_that_cannot_be_made_is_told_of(
    split: Split, encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], home: str,
) -> None:  # fmt: skip
    (tmp_path / "dangling").symlink_to("/nowhere/cache")
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / home))
    assert len(encoded(split, encoding, limit=20).rows)
    assert "the tokens of `train` cannot be kept for later runs: " in " ".join(capsys.readouterr().err.split())


def test_a_limit_of_the_file_size_is_lifted_by_its_own_hint(
    split: Split, encoding: Encoding, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*args: object) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(module, "write", limited)
    monkeypatch.setattr("hubdpo.machine.refusals._limit", lambda kind: 8192)
    with pytest.raises(MachineError) as caught:
        encoded(split, encoding, limit=20)
    assert caught.value.hint == "ulimit -f unlimited"


def test_the_home_of_the_cache_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", "~/x")
    assert cache_folder("tokens") == Path.home() / "x" / "tokens"


def _encode(split: Split, encoding: Encoding, results: Any) -> None:
    made: list[int] = []
    usual = module._made
    module._made = lambda *args: (made.append(1), usual(*args))[1]
    found = encoded(split, encoding, num_proc=1)
    results.put((found.rows.fingerprint, len(made)))


def test_two_processes_at_once_encode_once(split: Split, encoding: Encoding, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_encode, args=(split, encoding, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found[0][0] == found[1][0]
    assert sum(made for _, made in found) == 1
    assert len(list(cache.iterdir())) == 1, "neither lock nor scratch is left"


def _die_in_the_middle(split: Split, encoding: Encoding) -> None:
    usual = module.write

    def write(folder: Path, parts: Iterator[Any], end: Any) -> None:
        def some() -> Iterator[Any]:
            yield next(parts)
            signal.raise_signal(signal.SIGKILL)

        usual(folder, some(), end)

    module.write = write
    encoded(split, encoding, num_proc=2)


def test_a_killed_process_leaves_nothing_that_a_later_one_believes(
    split: Split, encoding: Encoding, cache: Path
) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_in_the_middle, args=(split, encoding))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(cache.rglob("*.npy"))
    found = encoded(split, encoding)
    assert found.account.counts["rows"] == PAIRS
    assert [path.name[0] for path in cache.iterdir() if path.name[0] == "."] == []


def test_no_pair_is_held_as_python_objects(split: Split, encoding: Encoding) -> None:
    encoded(split, encoding)
    tracemalloc.start()
    found = encoded(split, encoding)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 16 * PAIRS, "as lists a pair takes more than 500 bytes"
    assert all(not found.rows[0][name].flags.owndata for name in LISTS)
