"""The held-out pairs of a run and the answers of both models, without a browser."""

from __future__ import annotations

import re
import threading
from html import unescape
from pathlib import Path

import pytest

from hubdpo.artefacts.manifests.manifest import EVAL_PAIRS_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import DatasetRef, RunManifest
from hubdpo.errors import ConfigError
from hubdpo.view.open import open_thing
from hubdpo.view.run import data as run_data
from hubdpo.view.thing import Thing
from tests.view.ask import ask, page, words
from tests.view.made_datasets import made_up, pair, thing_of, write_dataset
from tests.view.made_runs import PAIRS, report, write_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [pair(f"question {row}", f"good answer {row}", f"bad answer {row}") for row in range(PAIRS)]
    rows[5] = pair("<b>bold</b>", "a quokka", "a duck")
    return write_dataset(tmp_path / "data", {"train": made_up(3), "test": rows})


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="row-(\d+)"', html)]


def test_pairs_are_sorted_and_filtered(tmp_path: Path, data: Path) -> None:
    thing = thing_of(write_run(tmp_path / "run", evaluated=report(), data=data))
    wrong = sorted((row for row in range(PAIRS) if row % 3), reverse=True)
    assert numbers(page(thing, "/pairs")) == wrong[:10]
    assert numbers(page(thing, "/pairs?order=highest"))[:3] == [21, 18, 15]
    assert numbers(page(thing, "/pairs?order=row&from=20")) == [20, 21, 22, 23]
    sets = {
        "only-adapter": {3, 9, 15, 21}, "only-base": {row for row in range(0, PAIRS, 2) if row % 3},
        "both": {0, 6, 12, 18}, "neither": {row for row in range(1, PAIRS, 2) if row % 3},
    }  # fmt: skip
    for outcome, rows in sets.items():
        html = page(thing, f"/pairs?outcome={outcome}&order=row")
        assert {*numbers(html)} == {*sorted(rows)[:10]}
        assert f"{len(rows)} pairs of 24" in html
    # the rejected answers have more tokens, so that as a whole nearly every chosen one is the likelier
    assert [
        f"both are right ({count})" in page(thing, f"/pairs?by={by}") for by, count in (("token", 4), ("answer", 24))
    ]


def test_a_pair_has_its_text_and_the_scores_of_both_models(tmp_path: Path, data: Path) -> None:
    thing = thing_of(write_run(tmp_path / "run", evaluated=report(), data=data))
    html = page(thing, "/pairs?row=5")
    assert numbers(html) == [5]
    assert "&lt;b&gt;bold&lt;/b&gt;" in html and "<b>bold" not in html
    text = words(html)
    assert "base wrong adapter wrong" in text
    assert "base -24.50 -30.00 -3.5000 -3.0000 -0.5000 adapter -28.35 -30.00 -4.0500 -3.0000 -1.0500" in text
    assert "7 tokens chosen, 10 rejected; reward margin -0.3850" in text
    assert numbers(page(thing, "/pairs?q=QUOKKA")) == [5]


def test_pairs_are_shown_without_texts_where_the_data_is_gone_or_another(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", evaluated=report(), data=data)
    manifest = RunManifest.read(run / RUN_FILE)
    other = manifest.dataset.model_copy(update={"fingerprint": "1" * 64})
    manifest.model_copy(update={"dataset": other}).write(run / RUN_FILE)
    html = page(thing_of(run), "/pairs")
    assert "holds other data than the run was trained on" in html and "question" not in html
    assert len(numbers(html)) == 10 and 'name="q"' not in html
    (run / "local.json").unlink()
    assert "its dataset, `d`, cannot be read here" in unescape(page(thing_of(run), "/pairs"))


def test_a_run_without_scores_says_how_to_get_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", evaluated=report())
    (run / EVAL_PAIRS_FILE).unlink()
    answer = ask(thing_of(run), "/pairs")
    assert answer.status == 404 and f"hubdpo evaluate {run}" in answer.content.decode()
    (run / EVAL_PAIRS_FILE).write_text("{}\n")
    answer = ask(thing_of(run), "/pairs")
    assert answer.status == 500 and "line 1: these are not the scores of a pair" in unescape(answer.content.decode())
    none = write_run(
        tmp_path / "none", dataset=DatasetRef(name="d", fingerprint="f", train_pairs=9, test_pairs=0)
    )  # fmt: skip
    assert "no test split" in ask(thing_of(none), "/pairs").content.decode()


def test_answers_stand_side_by_side_with_the_words_that_differ(tmp_path: Path) -> None:
    samples = [("<i>why</i>?", "It is a good day.", "It is a bad day."), ("b", "", "same")]
    thing = thing_of(write_run(tmp_path / "run", evaluated=report(samples)))
    html = page(thing, "/answers")
    assert "&lt;i&gt;why&lt;/i&gt;?" in html
    assert re.findall(r'<mark class="differs">(.*?)</mark>', html)[:2] == ["good", "bad"]
    assert "(empty answer)" in html
    (tmp_path / "run" / "eval.json").unlink()
    assert "hubdpo evaluate" in ask(thing, "/answers").content.decode()


def test_the_dataset_of_a_run_may_be_given(tmp_path: Path, data: Path) -> None:
    run, other = (str(write_run(tmp_path / name, evaluated=report())) for name in ("run", "other"))
    assert "cannot be read here" in page(open_thing([run]), "/pairs")
    for thing in (open_thing([run], str(data)), open_thing([run, other], str(data))):
        for number in range(1, 2 + len(thing.others)):
            html = page(thing, f"/pairs?order=row&run={number}")
            assert "quokka" in html and "without their texts" not in html
    with pytest.raises(ConfigError, match="`--dataset` belongs to a run"):
        open_thing([str(data)], str(data))
    with pytest.raises(ConfigError, match="is no dataset"):
        open_thing([run], run)


def test_a_page_does_not_wait_for_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def ask_hub(*_: object) -> None:
        answered.wait(30)

    monkeypatch.setattr(Thing, "dataset", ask_hub)
    monkeypatch.setattr(run_data, "WAIT_S", 0.1)
    dataset = DatasetRef(
        name="d", repo_id="me/d", revision="1" * 40, fingerprint="0" * 64, train_pairs=1, test_pairs=PAIRS
    )
    thing = thing_of(write_run(tmp_path / "run", evaluated=report(), dataset=dataset))
    html = page(thing, "/pairs")
    assert "the Hub is being asked for its dataset" in html and 'id="held-out" data-live' in html
    answered.set()
    thing.keep("data", lambda: None)._thread.join(30)  # type: ignore[attr-defined]
    html = page(thing, "/pairs")
    assert "cannot be read here" in html and "data-live" not in html
