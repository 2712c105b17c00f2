"""The languages of a dataset: stated, found in its rows, or not named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from hubdpo import prepare
from hubdpo.artefacts.formats.messages import schema
from hubdpo.artefacts.manifests.prepare import PrepareManifest, ToldLanguages
from hubdpo.data.language import named_languages
from hubdpo.data.prepare.samples import GROUPS, draw_pairs
from tests.data.made import lines, rows

pytest.importorskip("py3langid")

TEXTS = {
    "en": (
        "How do I keep basil alive through the winter?",
        "Put it on a sunny windowsill and water it when it is dry.",
    ),
    "de": ("Wie halte ich Basilikum über den Winter am Leben?", "Stell es auf eine sonnige Fensterbank und gieß es."),
    "zh": ("冬天怎样才能让罗勒活下来？请告诉我。", "把它放在阳光充足的窗台上，土干了再浇水。"),
    "fr": ("Comment garder du basilic vivant pendant l'hiver ?", "Mettez-le sur un rebord de fenêtre ensoleillé."),
    "sr": ("Kako da sačuvam bosiljak tokom zime u stanu?", "Stavite ga na sunčan prozor i zalivajte ga redovno."),
    "code": (
        "def f(xs): return [x * x for x in xs if x > 0]  # ?",
        "def open_files(paths):\n    with open(paths[0]) as first:\n"
        "        return [first.read(), *(open(path).read() for path in paths[1:])]",
    ),
    "maths": (r"\int_0^1 x^2 \, dx = \frac{a}{b}, \quad a + b = ?", r"\[ \frac{1}{3} \Rightarrow a + b = 1 + 3 = 4 \]"),
}


def pairs(language: str, count: int) -> list[dict[str, str]]:
    prompt, chosen = TEXTS[language]
    return [{"prompt": f"{prompt} {i}", "chosen": f"{chosen} {i}", "rejected": f"no {i}"} for i in range(count)]


def made(tmp_path: Path, values: list[dict[str, Any]], **options: Any) -> tuple[PrepareManifest, DatasetCard]:
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, **options)
    assert manifest is not None
    assert manifest == PrepareManifest.read(tmp_path / "out" / "prepare.json")
    return manifest, DatasetCard.load(tmp_path / "out" / "README.md")


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"en": 40}, ["en"]),
        ({"zh": 30}, ["zh"]),
        ({"fr": 10, "de": 30, "zh": 20}, ["de", "zh", "fr"]),
        ({"en": 120, "de": 1}, ["en"]),
        ({"en": 2}, ["en"]),
        ({"en": 1}, []),
        ({"code": 30}, []),
        ({"maths": 30}, []),
        ({"code": 40, "en": 3}, []),
        ({"code": 20, "en": 20}, ["en"]),
    ],
    ids=str,
)
def test_the_languages_of_the_rows_are_found(counts: dict[str, int], found: list[str], tmp_path: Path) -> None:
    manifest, card = made(tmp_path, [pair for language, count in counts.items() for pair in pairs(language, count)])
    assert manifest.language == found
    assert card.data.to_dict().get("language", []) == found


def test_short_texts_name_no_language(tmp_path: Path) -> None:
    manifest, card = made(tmp_path, rows(50))
    assert (manifest.language, manifest.told_languages and manifest.told_languages.languages) == ([], {})
    assert "No language is named: too little text could be told by py3langid" in card.text
    assert "100 texts of 50 pairs drawn from" in card.text
    assert "100 too short, code or not sure." in card.text


def test_the_card_says_how_languages_were_found(tmp_path: Path) -> None:
    _, card = made(tmp_path, [*pairs("en", 12), *pairs("code", 3)])
    assert "Nobody stated the languages, so they were told by py3langid" in card.text
    assert "`en` 24, 6 too short, code or not sure." in card.text


def test_a_stated_language_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdpo.data.language._ranking", lambda: pytest.fail("it looked"))
    manifest, card = made(tmp_path, pairs("en", 10), language=["de"])
    assert (manifest.language, manifest.told_languages) == (["de"], None)
    assert "were told by" not in card.text


def test_a_text_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    prompt, chosen = TEXTS["en"]
    same = [{"prompt": prompt, "chosen": f"{chosen} {i}", "rejected": "no"} for i in range(10)]
    manifest, _ = made(tmp_path, same)
    assert manifest.told_languages is not None
    assert manifest.told_languages.texts == 11


def test_a_language_is_the_likeliest_of_those_that_are_alike(tmp_path: Path) -> None:
    manifest, _ = made(tmp_path, pairs("sr", 20))
    assert manifest.language == ["sr"]


def test_what_is_found_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    values = [*pairs("de", 150), *pairs("en", 150)]
    one, two = (made(tmp_path, values, num_proc=workers, overwrite=True)[0] for workers in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ("languages", "named"),
    [
        ({"en": 98, "de": 3}, ["en", "de"]),
        ({"en": 98, "de": 2}, ["en"]),
        ({"en": 299, "de": 5}, ["en"]),
        ({"en": 19}, []),
        ({"en": 20}, ["en"]),
    ],
    ids=str,
)
def test_a_language_needs_enough_texts(languages: dict[str, int], named: list[str]) -> None:
    told = ToldLanguages(by="py3langid 0", split="train", pairs=50, texts=max(100, sum(languages.values())))
    assert named_languages(told.model_copy(update={"languages": languages})) == named


def test_pairs_are_drawn_from_all_row_groups_and_never_from_too_many(tmp_path: Path) -> None:
    shards = [str(tmp_path / f"{shard}.parquet") for shard in (0, 1)]
    for shard, path in enumerate(shards):
        columns = {
            "prompt": [[{"role": "user", "content": "q"}]] * 100,
            "chosen": [[{"role": "assistant", "content": str(100 * shard + i)}] for i in range(100)],
            "rejected": [[{"role": "assistant", "content": "no"}]] * 100,
        }
        pq.write_table(pa.table(columns, schema([])), path, row_group_size=5)
    drawn = [int(pair.chosen[0]["content"]) for pair in draw_pairs(shards, seed=3)]
    groups = {number // 5 for number in drawn}
    assert len(drawn) == len({*drawn}) == 5 * GROUPS
    assert len(groups) == GROUPS
    assert {number // 20 for number in groups} == {0, 1}
    assert drawn != sorted(drawn)
    assert drawn != [int(pair.chosen[0]["content"]) for pair in draw_pairs(shards, seed=4)]


def test_without_py3langid_no_language_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdpo.data.language._ranking", lambda: None)
    manifest, _ = made(tmp_path, pairs("en", 10))
    assert (manifest.language, manifest.told_languages) == ([], None)
