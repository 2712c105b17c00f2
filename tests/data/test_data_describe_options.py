"""`--describe` beside other options: the description keeps them, so that it makes the same dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.config import PrepareConfig
from hubdpo.data.prepare.prepare import prepare as run_prepare

PAIR = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
SAID: list[tuple[Any, dict[str, Any]]] = [
    ({"all": {"items": [PAIR] * 2}, "more": [{"x": 1}]}, {"rows": "all.items"}),
    ([{**PAIR, "prompt": "问"}], {"encoding": "gb18030"}),
    ([{"prompt": "Q", "response_a": "good", "response_b": "bad", "winner": "x"}], {"labels": "first=x,second=y"}),
    (
        [{"q": "Q", "a": "good", "b": "bad", "v": "x"}],
        {"map": "prompt=q,first=a,second=b,vote=v", "labels": "first=x,second=y,tie=z"},
    ),
    ([{"prompt": "Q", "answers": [{"answer": a, "rank": n} for n, a in enumerate("abc")]}], {"pairs": "all"}),
    ([{**PAIR, "id": "7"}, {**PAIR, "prompt": "R", "id": "8"}], {"keep": ["id"], "test_size": 0.5}),
    ([PAIR], {"sources": {"split": "train", "name": "mine"}}),
]


@pytest.mark.parametrize(("rows", "options"), SAID, ids=str)
def test_a_description_keeps_what_was_said_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Any, options: dict[str, Any]
) -> None:
    encoding = options.get("encoding", "utf-8")
    (tmp_path / "raw.json").write_bytes(json.dumps(rows, ensure_ascii=False).encode(encoding))
    where: dict[str, Any] = {"source": tmp_path / "raw.json"}
    if "sources" in options:
        where, options = {}, {"sources": [{"path": str(tmp_path / "raw.json"), **options["sources"]}]}
    prepare(**where, output_dir=tmp_path / "out", **options)
    capsys.readouterr()
    prepare(**where, describe=True, dry_run=True, num_proc=1, **options)
    (tmp_path / "data.yaml").write_text(text := capsys.readouterr().out)
    assert "dry_run" not in text
    run_prepare(PrepareConfig.build({"output_dir": str(tmp_path / "again")}, file=tmp_path / "data.yaml"))
    assert _data(tmp_path / "again") == _data(tmp_path / "out")


def _data(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}
