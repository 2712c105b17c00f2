"""The pairs that a dataset card shows, and its title."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hubdpo import prepare
from tests.data.made import lines, rows

PERSONAL = "with what may be a telephone number or an e-mail address"


def made(tmp_path: Path, values: list[dict[str, Any]], **options: Any) -> str:
    (tmp_path / "helpful.jsonl").write_bytes(lines(values))
    prepare(source=str(tmp_path / "helpful.jsonl"), output_dir=tmp_path / "out", test_size=0, **options)
    return (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def samples_of(card: str) -> list[str]:
    return re.findall(r"```text\n(.*?)\n```", card.split("## Samples")[1], re.DOTALL)


def test_samples_are_drawn_from_all_rows_by_the_seed(tmp_path: Path) -> None:
    drawn = [samples_of(made(tmp_path, rows(300), seed=seed, overwrite=True)) for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert not any(re.search(r"question [01]\b", sample) for sample in drawn[0])


def test_samples_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    one, two = (samples_of(made(tmp_path, rows(40), num_proc=workers, overwrite=True)) for workers in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("the key is hf_" + "aB3dE6gH9j" * 3 + "kLmN", "with a credential"),
        ("you Bitch", "with coarse words"),
        ("so eine Scheiße", "with coarse words"),
        ("你这个傻逼", "with coarse words"),
        ("call +1 917-444-0321", PERSONAL),
        ("call (030) 5557 1234", PERSONAL),
        ("ask jo.doe@example.org", PERSONAL),
    ],
)
def test_a_pair_that_a_card_should_not_quote_is_passed_over_and_counted(
    answer: str, reason: str, tmp_path: Path
) -> None:
    pair = {"prompt": "why", "chosen": answer, "rejected": "no"}
    card = made(tmp_path, [pair], scan="none")
    assert (samples_of(card), answer in card) == ([], False)
    assert f"None of the pairs that were drawn is shown.\n1 pair {reason} was passed over." in card


@pytest.mark.parametrize("answer", ["on 2026-11-28 at 10:00", "pi is 3.14159, not 3.2", "Pick the Shiitake, grapes."])
def test_dates_and_other_words_are_quoted(answer: str, tmp_path: Path) -> None:
    assert answer in made(tmp_path, [{"prompt": "why", "chosen": answer, "rejected": "no"}])


def test_a_pair_that_a_weight_repeats_is_not_shown_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(rows(1)))
    sources = [{"path": str(tmp_path / "a.jsonl"), "weight": 20}]
    prepare(sources=sources, output_dir=tmp_path / "out", test_size=0)
    assert len(samples_of((tmp_path / "out" / "README.md").read_text(encoding="utf-8"))) == 1


def test_the_title_names_the_file(tmp_path: Path) -> None:
    assert "\n# Preference pairs of helpful.jsonl\n" in made(tmp_path, rows(3))


def test_the_title_of_many_files_names_the_first(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_bytes(lines(rows(3)))
    prepare(source=str(tmp_path / "*.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert "\n# Preference pairs of 0.jsonl and 2 other files\n" in (tmp_path / "out" / "README.md").read_text()


def test_the_picture_has_twice_the_pixels_at_which_the_card_shows_it(tmp_path: Path) -> None:
    card = made(tmp_path, rows(3))
    shown = re.search(r'<img src="(plots/lengths.png)" width="(\d+)"', card)
    assert shown is not None
    with Image.open(tmp_path / "out" / shown[1]) as picture:
        assert picture.width == 2 * int(shown[2])
