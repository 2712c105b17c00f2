"""The prepare stage: every row counted, the folder whole or absent, the same bytes each time."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.cli.app import app
from hubdpo.config import PrepareConfig
from hubdpo.data.prepare.dropped import next_step
from hubdpo.errors import ArtefactError, ConfigError, DataError, HubError
from tests.data.made import contents, lines, rows

REAL = Path(os.environ.get("HUBDPO_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
CODE = "from hubdpo.cli.app import main; main()"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.jsonl"
    path.write_bytes(lines(rows(200)))
    return path


def make(tmp_path: Path, data: bytes, name: str = "raw.jsonl", **options: Any) -> PrepareManifest:
    (tmp_path / name).write_bytes(data)
    return prepare(source=[str(tmp_path / name)], output_dir=tmp_path / "out", **options)


def test_the_funnel_adds_up_and_each_loss_is_named(tmp_path: Path) -> None:
    bad = [b"{broken\n", b"[1]\n", b'{"prompt": "p", "chosen": "", "rejected": "b"}\n', b"\n"]
    manifest = make(tmp_path, lines(rows(5)) + b"".join(bad) + lines(rows(1)))
    assert manifest.funnel.model_dump() == {
        "read": 9, "kept": 5,
        "dropped": {"duplicate_pair": 1, "empty_answer": 1, "malformed_line": 1, "not_an_object": 1},
        "added": 0, "joined": 0,
    }  # fmt: skip
    named = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in named] == [
        (6, "malformed_line"), (7, "not_an_object"), (8, "empty_answer"), (10, "duplicate_pair"),
    ]  # fmt: skip


def test_the_text_of_a_dropped_row_stays_in_its_source(tmp_path: Path) -> None:
    make(tmp_path, lines(rows(3)) + b'{"prompt": "SECRET", "chosen": "", "rejected": "SECRET"}\n')
    assert "SECRET" not in (tmp_path / "out" / "rejected.jsonl").read_text()


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000, b'{"a":' * 2000, b'{"prompt": NaN}', b'{"prompt": "\\ud800"}', b'{"prompt": "\xff"}',
        b"not json", b"1e400", b'{"prompt": "p"', b"\xef\xbb\xbf{}x",
    ],
)  # fmt: skip
def test_a_hostile_line_is_one_counted_loss(tmp_path: Path, line: bytes) -> None:
    funnel = make(tmp_path, lines(rows(3)) + line + b"\n" + lines(rows(5)[3:])).funnel
    assert (funnel.read, funnel.kept, sum(funnel.dropped.values())) == (6, 5, 1)


def test_a_line_beyond_the_limit_is_skipped_and_counted(tmp_path: Path) -> None:
    long = json.dumps({"prompt": "x" * 5000, "chosen": "a", "rejected": "b"}).encode() + b"\n"
    funnel = make(tmp_path, long + lines(rows(3)), max_line_bytes=2000).funnel
    assert funnel.dropped == {"line_too_long": 1}
    assert funnel.kept == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + lines(rows(4)),
        lines(rows(4)).replace(b"\n", b"\r\n"),
        lines(rows(4)).replace(b"\n", b"\n\n"),
        lines(rows(4)).rstrip(b"\n"),
        lines(rows(4)).replace(b"good", "good\u2028line".encode()),
    ],
    ids=["bom", "crlf", "blank lines", "no last newline", "line separator"],
)
def test_ways_to_write_lines(tmp_path: Path, data: bytes) -> None:
    assert make(tmp_path, data).funnel.kept == 4


def test_every_kind_of_file_gives_the_same_pairs(tmp_path: Path) -> None:
    values = rows(20)
    csv = "prompt,chosen,rejected\n" + "".join(f"{v['prompt']},{v['chosen']},{v['rejected']}\n" for v in values)
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "t.parquet")
    kinds = {
        "a.jsonl": lines(values), "b.jsonl.gz": gzip.compress(lines(values)), "c.json": json.dumps(values).encode(),
        "d.json": lines(values), "e.csv": csv.encode(), "f.parquet": (tmp_path / "t.parquet").read_bytes(),
        "g.json.gz": gzip.compress(json.dumps(values, indent=1).encode()),
    }  # fmt: skip
    tables = []
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        prepare(source=[str(tmp_path / name)], output_dir=tmp_path / f"out-{name}")
        tables.append(load_preferences(tmp_path / f"out-{name}")["train"].to_list())
    assert all(table == tables[0] for table in tables)


def test_stdin_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(lines(rows(3)))
    (tmp_path / "in" / "b.jsonl").write_bytes(lines(rows(6)[3:]))
    for source, stdin in (("in", b""), ("in/*.jsonl", b""), ("-", lines(rows(6))), ("/dev/stdin", lines(rows(6)))):
        command = [sys.executable, "-c", CODE, "prepare", source, "-o", "out", "--json"]
        done = subprocess.run(command, cwd=tmp_path, input=stdin, capture_output=True)
        assert json.loads(done.stdout)["funnel"]["kept"] == 6, done.stderr.decode()


def test_a_dataset_on_the_hub_is_a_source(dataset_dir: Path, repo_id: str, tmp_path: Path) -> None:
    from hubdpo import push

    commit = push(folder=dataset_dir, repo=repo_id, version="1.0.0").commit
    manifest = prepare(source=[f"hf://datasets/{repo_id}@v1.0.0"], output_dir=tmp_path / "out", test_size=0)
    assert manifest.funnel.kept == 48
    assert all(commit in source.name for source in manifest.sources)


def test_a_missing_dataset_on_the_hub_is_named(tmp_path: Path, repo_id: str) -> None:
    with pytest.raises(HubError, match=repo_id):
        prepare(source=[f"hf://datasets/{repo_id}"], output_dir=tmp_path / "out")


def test_the_folder_loads_with_datasets_alone(raw: Path, tmp_path: Path) -> None:
    manifest = prepare(source=[str(raw)], output_dir=tmp_path / "out", test_size=0.3)
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(table) for split, table in loaded.items()} == manifest.splits
    first = loaded["train"][0]
    assert first["prompt"][0]["role"] == "user"
    assert set(first) == {"prompt", "chosen", "rejected"}


def test_no_prompt_is_in_both_splits(tmp_path: Path) -> None:
    values = [{**row, "prompt": f" Question\t{i % 40}"} for i, row in enumerate(rows(200))]
    make(tmp_path, lines(values), test_size=0.3)
    data = load_preferences(tmp_path / "out")
    train, test = (
        {" ".join(row["prompt"][0]["content"].split()) for row in data[split]} for split in ("train", "test")
    )
    assert train
    assert test
    assert not train & test


def test_rows_do_not_move_between_splits_when_data_is_added(tmp_path: Path) -> None:
    make(tmp_path, lines(rows(100)), test_size=0.3)
    before = {row["prompt"][0]["content"] for row in load_preferences(tmp_path / "out")["test"]}
    make(tmp_path, lines(rows(200)), test_size=0.3)
    after = {row["prompt"][0]["content"] for row in load_preferences(tmp_path / "out")["test"]}
    assert before < after


def test_the_seed_changes_what_is_held_out(raw: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        prepare(source=[str(raw)], output_dir=tmp_path / str(seed), test_size=0.3, seed=seed)
    held = [load_preferences(tmp_path / seed)["test"].to_list() for seed in "01"]
    assert held[0] != held[1]


def test_kept_columns_are_text(tmp_path: Path) -> None:
    make(tmp_path, lines([{**row, "qid": str(i)} for i, row in enumerate(rows(3))]), keep=["qid"], test_size=0)
    assert load_preferences(tmp_path / "out")["train"]["qid"][:] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("have", "asked", "hint"),
    [("src", "scr", "--keep src"), ("Source", "source", "--keep Source"), ("a", "z", "leave `--keep` out")],
)
def test_a_column_to_keep_that_no_row_has_is_refused_with_the_one_that_is_meant(
    tmp_path: Path, have: str, asked: str, hint: str
) -> None:
    with pytest.raises(DataError, match=f"no row has a column `{asked}`; the rows have .*`{have}`") as caught:
        make(tmp_path, lines([{**row, have: "x"} for row in rows(3)]), keep=[asked], test_size=0)
    assert hint in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_a_column_to_keep_may_first_stand_far_down(tmp_path: Path) -> None:
    values = [*rows(1500), {**rows(1501)[-1], "late": "x"}]
    make(tmp_path, lines(values), keep=["late"], test_size=0)
    assert load_preferences(tmp_path / "out")["train"]["late"][-2:] == [None, "x"]


def test_a_column_that_trainers_read_is_not_kept(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="messages"):
        prepare(source=[str(raw)], output_dir=tmp_path / "out", keep=["messages"])


def test_more_loss_than_accepted_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="duplicate_pair 3"):
        make(tmp_path, lines(rows(3)) * 2, max_reject=0.2)
    assert not (tmp_path / "out").exists()


def test_no_usable_row_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="identical_answers 2"):
        make(tmp_path, b'{"prompt": "p", "chosen": "a", "rejected": "a"}\n' * 2)
    assert list(tmp_path.iterdir()) == [tmp_path / "raw.jsonl"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = []
    for seed, place in (("1", "here"), ("2", "there/deep")):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "raw.jsonl").write_bytes(lines(rows(50)))
        command = [sys.executable, "-c", CODE, "prepare", "raw.jsonl", "-o", "out", "--test-size", "0.3"]
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo" if seed == "2" else "UTC"}
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
        folders.append(contents(folder / "out"))
    assert folders[0] == folders[1]


def test_nothing_published_names_this_machine(raw: Path, tmp_path: Path) -> None:
    prepare(source=[str(raw)], output_dir=tmp_path / "out")
    assert all(str(tmp_path).encode() not in data for data in contents(tmp_path / "out").values())


def test_the_same_again_writes_nothing(raw: Path, tmp_path: Path) -> None:
    prepare(source=[str(raw)], output_dir=tmp_path / "out")
    before = (tmp_path / "out" / PREPARE_FILE).stat().st_ino
    prepare(source=[str(raw)], output_dir=tmp_path / "out")
    assert (tmp_path / "out" / PREPARE_FILE).stat().st_ino == before


def test_other_options_replace_the_folder(raw: Path, tmp_path: Path) -> None:
    prepare(source=[str(raw)], output_dir=tmp_path / "out", test_size=0.3)
    prepare(source=[str(raw)], output_dir=tmp_path / "out", test_size=0)
    assert not list((tmp_path / "out" / "data").glob("test-*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw.jsonl"]


@pytest.mark.parametrize("edit", ["README.md", "data/train-00000-of-00001.parquet", "notes.txt"])
def test_a_folder_edited_by_hand_is_not_overwritten(raw: Path, tmp_path: Path, edit: str) -> None:
    prepare(source=[str(raw)], output_dir=tmp_path / "out")
    with (tmp_path / "out" / edit).open("ab") as stream:
        stream.write(b"mine")
    with pytest.raises(ArtefactError, match=edit) as caught:
        prepare(source=[str(raw)], output_dir=tmp_path / "out", seed=9)
    assert "--overwrite" in (caught.value.hint or "")
    assert (tmp_path / "out" / edit).read_bytes().endswith(b"mine")
    prepare(source=[str(raw)], output_dir=tmp_path / "out", seed=9, overwrite=True)
    assert not (tmp_path / "out" / "notes.txt").exists()


def test_a_folder_of_other_files_is_left_alone(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not a dataset"):
        prepare(source=[str(raw)], output_dir=tmp_path / "out", overwrite=True)


@pytest.mark.skipif(not REAL.is_dir(), reason="real data are not here")
@pytest.mark.parametrize(
    ("name", "converter", "read"),
    [
        ("hh-rlhf-harmless-base-test.jsonl", "hh-rlhf", 2312),
        ("llamafactory-dpo-en.json", "sharegpt", 300),
        ("llamafactory-dpo-zh.json", "sharegpt", 300),
    ],
)
def test_real_data(tmp_path: Path, name: str, converter: str, read: int) -> None:
    manifest = prepare(source=[str(REAL / name)], output_dir=tmp_path / "out")
    assert (manifest.converter, manifest.funnel.read, manifest.funnel.adds_up()) == (converter, read, True)
    data = load_preferences(tmp_path / "out")
    prompts = {split: {json.dumps(row["prompt"]) for row in table} for split, table in data.items()}
    assert not prompts["train"] & prompts["test"]
    for table in data.values():
        for row in table:
            turns = [message["role"] for message in row["prompt"] if message["role"] != "system"]
            assert turns == ["user", "assistant"] * (len(turns) // 2) + ["user"]
            assert [message["role"] for message in row["chosen"] + row["rejected"]] == ["assistant", "assistant"]
            assert row["chosen"] != row["rejected"]


@pytest.mark.skipif(not REAL.is_dir(), reason="real data are not here")
def test_real_single_answers_rarely_make_a_pair_and_each_is_counted(tmp_path: Path) -> None:
    manifest = prepare(source=[str(REAL / "llamafactory-kto-en.json")], output_dir=tmp_path / "out")
    assert manifest is not None
    funnel = manifest.funnel
    assert (funnel.read, funnel.kept, funnel.joined, funnel.dropped) == (300, 1, 1, {"unpaired": 298})


@pytest.mark.parametrize(
    ("reason", "given", "hint"),
    [
        ("contradiction", {}, "`--on-conflict majority` keeps"),
        ("contradiction", {"on_conflict": "majority"}, "as many rows"),
        ("over_length", {}, "--over-length truncate"),
        ("over_length", {"over_length": "truncate"}, "even without their older"),
        ("tie", {"on_conflict": "majority"}, "nobody preferred"), ("new", {}, "--explain 3"),
        ("wrong_type", {}, "--converter"),
        ("wrong_type", {"prompt": "talk", "chosen": "a", "rejected": "b"}, "--role-key"),
    ],
)  # fmt: skip
def test_a_next_step_is_none_that_was_taken(reason: str, given: dict[str, str], hint: str) -> None:
    config = PrepareConfig.build({"source": ["a.jsonl"], "output_dir": "out", **given})
    assert hint in next_step(Counter({reason: 2}), config)


def test_rows_of_a_test_split_alone_are_not_told_to_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "test.jsonl").write_bytes(lines(rows(3)))
    (tmp_path / "in" / "train.jsonl").write_bytes(lines([{**row, "chosen": "another"} for row in rows(3)]))
    app(["prepare", str(tmp_path / "in"), "-o", str(tmp_path / "out")], standalone_mode=False)
    told = capsys.readouterr().err
    assert "hubdpo train" not in told
    assert "`--test-size 0`" in told
