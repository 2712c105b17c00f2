"""What others published is read within limits: every row is a file that would take memory or time without end."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from hubdpo.artefacts.formats import bounded
from hubdpo.artefacts.formats.bounded import check_size, parse_json, parse_object, read_object
from hubdpo.errors import ArtefactError


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[" * 100_000, "nested more than 100 deep"),
        (b'{"a":' * 100_000, "nested more than 100 deep"),
        (b"[" * 150 + b"]" * 150, "nested more than 100 deep"),
        (b'{"r": ' + b"9" * 4_000 + b"}", "a number with 4,000 digits"),
        (b'{"r": ' + b"9" * 5_000 + b"}", "a number with 5,000 digits"),
        (b'{"r": 1e400}', "a number that is too large: 1e400"),
        (b'{"r": NaN}', "NaN instead of a number"),
        (b'{"r": -Infinity}', "-Infinity instead of a number"),
        (b'{"r": 1', "is not JSON"),
        (b'\xff{"r": 1}', "is not JSON"),
        (b"", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
    ],
)
def test_an_object_that_is_none_or_beyond_a_limit_is_one_line(data: bytes, says: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        parse_object(data, "adapter_config.json", of="who/what")
    assert says in caught.value.message
    assert caught.value.message.startswith("`adapter_config.json` of who/what")
    assert "\n" not in caught.value.message


def test_many_small_values_are_refused_before_they_are_made() -> None:
    data = b"[" + b"[]," * bounded.MAX_VALUES + b"0]"
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 4,000,000 values"):
        parse_json(data)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_what_is_within_the_limits_is_read() -> None:
    deep = b"[" * 100 + b"]" * 100
    assert parse_json(deep)
    assert parse_object('{"model_max_length": 1000000000000000019884624838656}', "tokenizer_config.json")
    assert parse_object(b"\xef\xbb\xbf" + '{"ä": 1.5}'.encode(), "config.json") == {"ä": 1.5}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_what_python_wrote_is_taken_as_python_takes_it(name: str) -> None:
    assert parse_object(b'{"a": Infinity, "b": [1, -Infinity], "a": 2}', name) == {"a": 2, "b": [1, float("-inf")]}
    with pytest.raises(ArtefactError, match="too large"):
        parse_object(b'{"a": 1e400}', name)


def test_our_own_files_may_hold_nan_but_no_key_twice() -> None:
    assert parse_json('{"a": Infinity}', ours=True) == {"a": float("inf")}
    with pytest.raises(ValueError, match="has the key 'a' twice"):
        parse_json('{"a": 1, "a": 2}', ours=True)


def test_size_is_looked_at_before_the_file_is_read(tmp_path: Path) -> None:
    large = tmp_path / "adapter_config.json"
    with large.open("wb") as stream:
        stream.truncate(20 * 10**9)  # a hole: reading it would take 20 GB
    with pytest.raises(
        ArtefactError, match=r"`adapter_config.json` of it has 20,000,000,000 bytes, more than the limit of 4,"
    ):
        read_object(large, of="it")


@pytest.mark.parametrize(
    ("name", "size"), [("README.md", 2_000_001), ("sub/README.md", 2_000_001), ("eval.json", 4_000_001)]
)
def test_the_limit_goes_by_the_name(name: str, size: int) -> None:
    check_size(name, size - 1)
    with pytest.raises(ArtefactError, match=f"`{name}` has"):
        check_size(name, size)


def test_a_device_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "run.json").symlink_to("/dev/zero")
    for name in ("config.json", "run.json"):
        with pytest.raises(ArtefactError, match="is not a regular file"):
            read_object(tmp_path / name)
