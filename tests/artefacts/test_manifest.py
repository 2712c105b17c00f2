"""The files between stages: written whole or not at all, refused when they do not fit."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from pydantic import ValidationError

import hubdpo
from hubdpo.artefacts.formats.metrics_log import read_log
from hubdpo.artefacts.manifests.base_memory import BaseMemory
from hubdpo.artefacts.manifests.bundle import Bundle, Release
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.health import Speed
from hubdpo.artefacts.manifests.manifest import (
    MAX_TEXT_LENGTH,
    FileEntry,
    Manifest,
    Part,
    file_entry,
    fingerprint,
    verify_files,
    write_atomic,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import Funnel, PrepareManifest, ToldLanguages
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest
from hubdpo.errors import ArtefactError
from hubdpo.release.verify.verify import Verified
from tests.cards.made import run_manifest

MANIFESTS = [PrepareManifest, RunManifest, SweepManifest, EvalReport, Probes, Bundle, Release, Verified, MergeManifest]
LISTING = [PrepareManifest, RunManifest, Bundle, Release, Verified, MergeManifest]
"""Manifests with paths of files in them."""
LEADS_OUT = [
    "../outside", "data/../../outside", "..", ".", "", "/etc/hostname", "//host/share", "data//x", "data/", "a\\b",
    "..\\outside", "C:/outside", "c:outside", "data/x\0.parquet", "new\nline",
]  # fmt: skip
STAYS = [
    "README.md",
    "data/train-00000-of-00001.parquet",
    "..hidden",
    "a/...",
    "été/日本.txt",
    "with space",
    "v1:2.txt",
]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_manifest_reads_back_equal(tmp_path: Path) -> None:
    entry = FileEntry(sha256="0" * 64, size=3)
    bundle = Bundle(kind="dataset", version="1.0.0", bundle_id="x", files={"a": entry})
    bundle.write(tmp_path / "hubdpo.json")
    assert Bundle.read(tmp_path / "hubdpo.json") == bundle


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"unknown": 1}'])
def test_a_manifest_that_does_not_fit_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "hubdpo.json").write_text(text)
    with pytest.raises(ArtefactError, match="hubdpo.json"):
        Bundle.read(tmp_path / "hubdpo.json")


def test_a_changed_file_of_the_same_length_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    files = {"a": file_entry(tmp_path / "a")}
    verify_files(tmp_path, files, hint="again")
    (tmp_path / "a").write_text("abd")
    with pytest.raises(ArtefactError, match="`a`"):
        verify_files(tmp_path, files, hint="again")


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})


@pytest.mark.parametrize(("kept", "dropped", "whole"), [(3, {"x": 2}, True), (3, {"x": 1}, False), (5, {}, True)])
def test_a_funnel_adds_up_or_not(kept: int, dropped: dict[str, int], whole: bool) -> None:
    assert Funnel(read=5, kept=kept, dropped=dropped).adds_up() is whole


def classes_of_manifests() -> Iterator[str]:
    """Names of all classes in the package that are built on Manifest, directly or not."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(hubdpo.__file__).parent.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    known = {"Manifest"}
    for _ in range(3):
        for node in classes:
            if {base.id for base in node.bases if isinstance(base, ast.Name)} & known:
                known.add(node.name)
    yield from known - {"Manifest"}


def listed(kind: type[Manifest], names: list[str]) -> Any:
    """What the field `files` of a manifest holds for these names, in the form that it has in this class."""
    is_list = kind.model_fields["files"].annotation == list[str]
    return names if is_list else {name: {"sha256": "0" * 64, "size": 1} for name in names}


def test_every_manifest_is_tried_here() -> None:
    assert {kind.__name__ for kind in MANIFESTS} == set(classes_of_manifests())
    assert [kind for kind in MANIFESTS if "files" in kind.model_fields] == LISTING


@pytest.mark.parametrize("kind", LISTING, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", LEADS_OUT)
def test_no_manifest_names_a_file_outside_its_folder(kind: type[Manifest], name: str) -> None:
    validator = kind.__pydantic_validator__
    with pytest.raises(ValidationError, match="not a path inside the folder"):
        validator.validate_assignment(kind.model_construct(), "files", listed(kind, ["README.md", name]))


@pytest.mark.parametrize("kind", LISTING, ids=lambda kind: kind.__name__)
def test_every_manifest_takes_names_inside(kind: type[Manifest]) -> None:
    kind.__pydantic_validator__.validate_assignment(kind.model_construct(), "files", listed(kind, STAYS))


def test_a_manifest_of_a_newer_version_asks_for_an_upgrade() -> None:
    with pytest.raises(ArtefactError, match="another version of hubdpo .schema_version 99, here 1") as caught:
        PrepareManifest.parse(b'{"schema_version": 99}', "prepare.json")
    assert caught.value.hint == "pip install --upgrade hubdpo"


@pytest.mark.parametrize(
    "changes",
    [
        {"by": "[x](http://x)"},
        {"by": "x" * 101},
        {"split": "x" * (MAX_TEXT_LENGTH + 1)},
        {"pairs": -1},
        {"texts": 2**53 + 1},
        {"languages": {"en": -1}},
        {"languages": {"`en`": 1}},
        {"languages": {a + b: 1 for a in "abcdefghi" for b in ascii_lowercase}},
    ],
    ids=str,
)
def test_told_languages_are_bounded(changes: dict[str, Any]) -> None:
    values = {"by": "py3langid 0.4.0", "split": "train", "pairs": 2, "texts": 4, "languages": {"en": 3, "yue": 1}}
    assert ToldLanguages.model_validate(values).ranked == [("en", 3), ("yue", 1)]
    with pytest.raises(ValidationError):
        ToldLanguages.model_validate(values | changes)


@pytest.mark.parametrize(
    ("part", "values", "bad"),
    [
        (BaseMemory, {"linear_values": 1, "other_values": 1}, {"linear_values": -1}),
        (BaseMemory, {"linear_values": 1, "other_values": 1}, {"other_values": 2**53 + 1}),
        (BaseMemory, {"linear_values": 1, "other_values": 1}, {"cache_values": -1}),
        (Speed, {"tokens": 1, "seconds": 1.0, "at_once": 1, "device": "L4"}, {"seconds": 0.0}),
        (Speed, {"tokens": 1, "seconds": 1.0, "at_once": 1, "device": "L4"}, {"tokens": -1}),
        (Speed, {"tokens": 1, "seconds": 1.0, "at_once": 1, "device": "L4"}, {"device": "x" * (MAX_TEXT_LENGTH + 1)}),
    ],
    ids=str,
)
def test_numbers_of_a_part_are_bounded(part: type[Part], values: dict[str, Any], bad: dict[str, Any]) -> None:
    part.model_validate(values)
    with pytest.raises(ValidationError):
        part.model_validate(values | bad)


@pytest.mark.parametrize("bad", ["junk", "[1]"])
def test_a_broken_line_of_a_log_is_told_by_its_number(tmp_path: Path, bad: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{{"step": 2}}\n{bad}\n')
    with pytest.raises(ValueError, match="line 3: it is not"):
        read_log(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("name", ["dataset", "device", "seed"])
def test_an_own_run_is_read_with_all_its_facts_alone(name: str) -> None:
    values = run_manifest().model_dump(mode="json")
    assert RunManifest.parse(json.dumps(values).encode(), "run.json")
    del values[name]
    with pytest.raises(ArtefactError, match=f"{name} is needed, unless another tool trained the adapter"):
        RunManifest.parse(json.dumps(values).encode(), "run.json")
