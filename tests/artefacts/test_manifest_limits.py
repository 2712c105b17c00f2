"""Numbers and texts of a manifest are somebody else's: what cannot be is refused when it is read, naming the field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from hubdpo.artefacts.manifests.bundle import Bundle
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.manifest import MAX_TEXT_LENGTH, READ, Manifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ArtefactError
from tests.artefacts.test_manifest import MANIFESTS
from tests.cards.made import report, run_manifest

ABSURD: list[tuple[str, Any]] = [
    ("steps", 10**39),
    ("steps", -1),
    ("steps", 1.5),
    ("steps", "many"),
    ("train_seconds", float("nan")),
    ("tokens_per_second", float("inf")),
    ("peak_memory_bytes", -(2**70)),
    ("seed", 2**65),
    ("dataset.train_pairs", -5),
    ("dataset.name", ["a", "b"]),
    ("base.name", {"a": 1}),
    ("base.name", "x" * (MAX_TEXT_LENGTH + 1)),
    ("base.license", 7),
    ("device", "x" * (MAX_TEXT_LENGTH + 1)),
    ("tokenization", {"cut": -1}),
    ("status", "done"),
]
ABSURD_RESULTS: list[tuple[str, Any]] = [
    ("pairs", 10**39),
    ("adapter_accuracy.value", 7),
    ("adapter_accuracy.value", float("nan")),
    ("adapter_accuracy.low", -0.1),
    ("reward_accuracy.high", float("inf")),
    ("reward_margin", float("nan")),
    ("base_margin", "1e999"),
    ("mcnemar_p", 1.5),
    ("only_base_right", -3),
    ("chosen_longer.pairs", -1),
    ("samples", [{"prompt": 1, "base": "", "adapter": ""}]),
]


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    *outer, last = path.split(".")
    inner = value
    for name in outer:
        inner = inner[name]
    inner[last] = new
    return value


@pytest.mark.parametrize(
    ("kind", "made", "path", "value"),
    [
        *((RunManifest, run_manifest, path, value) for path, value in ABSURD),
        *((EvalReport, report, path, value) for path, value in ABSURD_RESULTS),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:30]),
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, kind: type[Manifest], made: Any, path: str, value: Any
) -> None:
    place = tmp_path / "facts.json"
    place.write_text(json.dumps(changed(made().model_dump(mode="json"), path, value)))
    with pytest.raises(ArtefactError) as caught:
        kind.read(place)
    assert path in caught.value.message
    assert str(place) in caught.value.message
    assert len(caught.value.message) < 600
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"steps": ' + "9" * 4_000 + "}", "a number with 4,000 digits"),
        ("[" * 100_000, "nested more than 100 deep"),
        ('{"config": ' + '{"a":' * 101 + "1" + "}" * 102, "nested more than 100 deep"),
        ('{"seed": 1, "seed": 2}', "has the key 'seed' twice"),
        (run_manifest().model_dump_json()[:-1] + ',"' + "x" * 100_000 + '": 1}', "xxx"),
    ],
)
def test_a_manifest_beyond_a_limit_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    place = tmp_path / "run.json"
    place.write_text(text)
    with pytest.raises(ArtefactError) as caught:
        RunManifest.read(place)
    assert says in caught.value.message
    assert len(caught.value.message) < 600


def test_a_manifest_as_large_as_its_repo_likes_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "hubdpo.json"
    with place.open("wb") as stream:
        stream.truncate(10**9)
    with pytest.raises(ArtefactError, match=r"has 1,000,000,000 bytes, more than the limit of 16,000,000"):
        Bundle.read(place)


@pytest.mark.parametrize("name", ["a" * 5_000, "/".join(["a"] * 600), "é" * 200])
def test_a_path_that_no_system_takes_is_no_place_in_the_folder(name: str) -> None:
    files = {name: {"sha256": "0" * 64, "size": 1}}
    told = {"kind": "adapter", "version": "1.0.0", "bundle_id": "x", "files": files}
    with pytest.raises(ArtefactError, match="files: .*not a path inside the folder") as caught:
        Bundle.parse(json.dumps(told).encode(), "hubdpo.json")
    assert len(caught.value.message) < 300


def models(kind: type[BaseModel], known: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """The class and all that its fields are made of."""
    if kind in known:
        return
    known.add(kind)
    yield kind
    for field in kind.model_fields.values():
        pending = [field.annotation]
        while pending:
            one: Any = pending.pop()
            pending.extend(getattr(one, "__args__", ()))
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from models(one, known)


FREE = {"metrics", "schema_version"}
"""Numbers that nothing is decided or shown by, and what is one value only."""


def numbers() -> Iterator[tuple[str, Any, str]]:
    known: set[type[BaseModel]] = set()
    for kind in [one for manifest in MANIFESTS for one in models(manifest, known)]:
        if kind.__name__ in ("ProbeResult", "BaseState", "Verified"):  # what is found out now
            continue
        for name, field in kind.model_fields.items():
            told = str(field.annotation)
            if name not in FREE and re.search(r"\b(int|float)\b", told):
                holds = "list" if "list" in told else "dict" if "dict" in told else "one"
                yield f"{kind.__name__}.{name}", field.rebuild_annotation(), holds


@pytest.mark.parametrize(("where", "annotation", "holds"), numbers(), ids=[name for name, *_ in numbers()])
def test_every_number_of_every_manifest_has_limits(where: str, annotation: Any, holds: str) -> None:
    for absurd in (10**39, float("nan"), float("inf")):
        if absurd == 10**39 and "float" in str(annotation):
            continue
        value = {"one": absurd, "list": [absurd], "dict": {"a": absurd}}[holds]
        with pytest.raises(ValidationError):
            TypeAdapter(annotation).validate_python(value, context=READ)


def test_a_mean_of_shares_is_a_share() -> None:
    for one, other in [(1.0, 1.0), (0.0, 0.0), (0.1, 0.9)]:
        pair = [Accuracy(value=value, low=0.0, high=1.0) for value in (one, other)]
        assert Accuracy.mean(*pair).value == pytest.approx((one + other) / 2)
