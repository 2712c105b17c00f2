"""Text that is not UTF-8: named with the encodings that fit, and read when one is declared."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.raw.text.encodings import fitting_encodings
from hubdpo.errors import ConfigError, DataError
from tests.data.made import lines, rows
from tests.data.shapes.shape import as_csv

TEXTS = {
    "gb18030": ("怎么煮鸡蛋？", "水开后煮七分钟，很简单。", "我不知道。"),
    "big5": ("怎麼煮雞蛋？", "水開後煮七分鐘，很簡單。", "我不知道。"),
    "shift_jis": ("卵はどうやって茹でますか？", "沸騰したお湯で七分です。", "知りません。"),
    "euc-jp": ("卵はどうやって茹でますか？", "沸騰したお湯で七分です。", "知りません。"),
    "euc-kr": ("달걀은 어떻게 삶나요?", "끓는 물에 칠 분 삶으세요.", "모릅니다."),
    "windows-1251": ("Как сварить яйцо?", "Варите семь минут.", "Не знаю."),
    "koi8-r": ("Как сварить яйцо?", "Варите семь минут.", "Не знаю."),
    "windows-1252": ("Où est l'été ?", "Là-bas, près de la forêt.", "Ça alors, c’est passé."),
}


def row(name: str) -> dict[str, str]:
    return dict(zip(("prompt", "chosen", "rejected"), TEXTS[name], strict=True))


def make(tmp_path: Path, name: str, data: bytes, **options: Any) -> list[tuple[str, ...]]:
    (tmp_path / name).write_bytes(data)
    prepare(source=[str(tmp_path / name)], output_dir=tmp_path / "out", test_size=0, **options)
    found = load_preferences(tmp_path / "out")["train"]
    return [tuple(pair[side][0]["content"] for side in ("prompt", "chosen", "rejected")) for pair in found]


@pytest.mark.parametrize("name", TEXTS)
def test_the_likeliest_encoding_of_a_text_is_its_own(name: str) -> None:
    assert fitting_encodings(lines([row(name)]).decode().encode(name))[0] == name


@pytest.mark.parametrize("kind", ["raw.jsonl", "raw.csv", "raw.jsonl.gz"])
@pytest.mark.parametrize("name", [*TEXTS, "utf-16-le", "utf-32-be"])
def test_text_of_a_declared_encoding_is_read(tmp_path: Path, name: str, kind: str) -> None:
    text = row(name if name in TEXTS else "gb18030")
    data = (as_csv([text]) if kind == "raw.csv" else lines([text])).decode().encode(name)
    expected = [tuple(text.values())]
    assert make(tmp_path, kind, gzip.compress(data) if kind.endswith(".gz") else data, encoding=name) == expected


@pytest.mark.parametrize("name", TEXTS)
def test_the_encoding_that_the_error_names_reads_the_file(tmp_path: Path, name: str) -> None:
    data = lines([row(name)] * 3).decode().encode(name)
    with pytest.raises(DataError, match=f"perhaps {name}") as caught:
        make(tmp_path, "raw.jsonl", data)
    assert f"--encoding {name}" in str(caught.value.hint)
    assert make(tmp_path, "raw.jsonl", data, encoding=name) == [tuple(TEXTS[name])]


@pytest.mark.parametrize("name", TEXTS)
def test_two_rows_among_plain_english_ones_tell_the_encoding(tmp_path: Path, name: str) -> None:
    english = [{"prompt": f"Boil {count} eggs.", "chosen": "Yes.", "rejected": "No."} for count in range(5)]
    data = lines([*english, row(name), {**row(name), "rejected": "No!"}]).decode().encode(name)
    with pytest.raises(DataError, match=f"perhaps {name}"):
        make(tmp_path, "raw.jsonl", data)
    assert TEXTS[name] in make(tmp_path, "raw.jsonl", data, encoding=name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_that_says_its_own_encoding_is_read_as_that(tmp_path: Path, encoding: str) -> None:
    data = lines([row("gb18030")]).decode().encode(encoding)
    assert make(tmp_path, "raw.jsonl", data, encoding="windows-1252") == [TEXTS["gb18030"]]


def test_a_file_that_is_mostly_utf8_is_not_read_as_another_encoding(tmp_path: Path) -> None:
    data = lines([row("gb18030")] * 3) + lines([row("windows-1252")]).decode().encode("windows-1252")
    with pytest.raises(DataError, match="most lines of raw.jsonl are UTF-8"):
        make(tmp_path, "raw.jsonl", data, encoding="windows-1252")


@pytest.mark.parametrize("name", ["ascii", "utf-16"])  # the second has no byte order mark
def test_text_that_is_not_of_the_declared_encoding_is_refused_with_one_that_fits(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the {name} of raw.jsonl is broken") as caught:
        make(tmp_path, "raw.jsonl", lines([row("gb18030")]).decode().encode("gb18030"), encoding=name)
    assert caught.value.hint == "--encoding gb18030"


def test_a_table_has_no_encoding(tmp_path: Path) -> None:
    prepare(rows(2), tmp_path / "out", test_size=0, encoding="gb18030")
    assert len(load_preferences(tmp_path / "out")["train"]) == 2


@pytest.mark.parametrize(("name", "hint"), [("gb1803", "gb18030"), ("base64", "big5"), ("x" * 40, "gb18030")])
def test_a_name_that_is_no_encoding_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="no encoding of text") as caught:
        prepare(rows(1), tmp_path / "out", encoding=name)
    assert hint in str(caught.value.hint)
