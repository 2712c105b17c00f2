"""The types that DPO trains on, by the footer of a Parquet file alone."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubdpo.artefacts.formats.messages import MESSAGES, schema
from hubdpo.artefacts.formats.parquet_footers import read_footer, wrong_column
from hubdpo.errors import ArtefactError

TEXTS = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
NAMES = ("prompt", "chosen", "rejected")


def of(kind: Any, *without: str) -> pa.Schema:
    return pa.schema([(name, kind) for name in NAMES if name not in without])


def test_what_prepare_writes_is_trained_on() -> None:
    assert wrong_column(schema(["source"]), prepared=True) is None


@pytest.mark.parametrize("kind", [*TEXTS, MESSAGES, pa.large_list(MESSAGES.value_type)])
def test_texts_and_messages_can_be_prepared(kind: Any) -> None:
    assert wrong_column(of(kind), prepared=False) is None
    assert wrong_column(of(kind, "prompt"), prepared=False) is None
    assert (wrong_column(of(kind), prepared=True) is None) == (kind not in TEXTS)
    assert wrong_column(of(kind, "prompt"), prepared=True) == "`prompt` is missing"


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(), pa.int64(), pa.binary(), pa.list_(pa.string()), pa.list_(pa.struct([("role", pa.string())])),
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.int64())])), pa.struct([("role", pa.string())]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prepared", [True, False])
def test_other_types_are_named(kind: Any, prepared: bool) -> None:
    said = wrong_column(of(kind), prepared=prepared)
    assert said is not None and said.startswith("`prompt` holds ") and ", not " in said


def test_a_column_is_there_once() -> None:
    twice = pa.schema([*of(MESSAGES), pa.field("chosen", MESSAGES)])
    assert wrong_column(twice, prepared=True) == "`chosen` is repeated"
    assert wrong_column(of(MESSAGES, "rejected"), prepared=False) == "`rejected` is missing"


def test_rows_are_counted_and_no_parquet_is_one_line() -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), stream)
    assert read_footer(io.BytesIO(stream.getvalue()), "x", hint="again")[0] == 2
    for data in (b"", b"x", b"PAR1" + b"\xff" * 100 + b"PAR1", stream.getvalue()[:-9]):
        with pytest.raises(ArtefactError, match="`x` is not a Parquet file: ") as caught:
            read_footer(io.BytesIO(data), "x", hint="again")
        assert "\n" not in caught.value.message


def test_a_failing_disk_is_not_the_files_fault() -> None:
    class Failing(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        read_footer(Failing(b"PAR1" * 9), "x", hint="again")
