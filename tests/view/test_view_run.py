"""The pages of a run, without a browser."""

from __future__ import annotations

import json
import math
import re
import threading
from html import unescape
from pathlib import Path

import pytest

from hubdpo.artefacts.folders.journal import Entry, Journal
from hubdpo.artefacts.manifests.manifest import EVAL_PAIRS_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import DatasetRef, RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun
from hubdpo.config.train import TrainConfig
from hubdpo.view.open import open_thing
from hubdpo.view.plots import THEMES
from hubdpo.view.run import data as run_data
from hubdpo.view.thing import Thing
from tests.view.ask import ask, page, words
from tests.view.made_datasets import made_up, pair, thing_of, write_dataset
from tests.view.made_runs import PAIRS, held_out, line, report, worked_in, write_log, write_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [pair(f"question {row}", f"good answer {row}", f"bad answer {row}") for row in range(PAIRS)]
    rows[5] = pair("<b>bold</b>", "a quokka", "a duck")
    return write_dataset(tmp_path / "data", {"train": made_up(3), "test": rows})


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="row-(\d+)"', html)]


def curves(thing: Thing) -> list[str]:
    return re.findall(r'id="plot-(\w+)"', page(thing))


def test_a_finished_run_shows_its_curves_and_figures(tmp_path: Path) -> None:
    thing = thing_of(write_run(tmp_path / "run", evaluated=report(), train_seconds=80, tokens_per_second=512))
    html = page(thing)
    assert curves(thing) == ["loss", "accuracy", "margin", "logps", "rate", "norm", "speed"]
    text = words(html)
    assert "run complete 8 of 8 steps 1m 20s training time 512 tokens per second 0.6920 training loss" in text
    assert "62.5 % reward accuracy on 24 held-out pairs" in text
    assert "data-live" not in html
    assert 'alt="Loss: training 0.699 at step 1, 0.692 at step 8; held-out 0.69 at step 4, 0.69 at step 8"' in html
    for theme in ("light", "dark"):
        address = unescape(re.findall(rf'"(/curves/loss\?theme={theme}[^"]*)"', html)[0])
        picture = ask(thing, address)
        assert picture.headers["Content-Type"] == "image/svg+xml"
        assert b"ln 2" in picture.content and b"held-out" in picture.content
        assert ask(thing_of(tmp_path / "run"), address).content == picture.content


@pytest.mark.parametrize("address", ["/curves/nope", "/curves/loss/more", "/curves/loss?theme=pink", "/pairs?row=99",
                                     "/pairs?run=2", "/curves?from=x", "/pairs?order=nope", "/nope"])  # fmt: skip
def test_addresses_that_lead_nowhere_are_told_so(tmp_path: Path, address: str) -> None:
    answer = ask(thing_of(write_run(tmp_path / "run", evaluated=report())), address)
    assert answer.status in (400, 404)


@pytest.mark.parametrize(
    ("options", "shows"),
    [({}, True), ({"loss_type": ["robust"]}, True), ({"loss_type": ["ipo"]}, False),
     ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]}, False), ({"use_weighting": True}, False)],
)  # fmt: skip
def test_ln_2_is_marked_where_a_loss_begins_there(tmp_path: Path, options: dict[str, object], shows: bool) -> None:
    thing = thing_of(write_run(tmp_path / "run", options=options))
    assert (b"ln 2" in ask(thing, "/curves/loss").content) is shows
    assert b"chance, 0.5" in ask(thing, "/curves/accuracy").content


def test_a_run_is_followed_while_a_process_works_in_its_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running", steps=3, planned=9)
    thing = thing_of(run)
    with worked_in(run):
        html = page(thing)
        assert 'data-live="2"' in html
        # 1,000 tokens and two seconds a step
        assert "run training 3 of 9 steps 12s left 500 tokens per second" in words(html)
        with (run / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(line(4)) + "\n" + json.dumps(line(5))[:20])
        assert "4 of 9 steps 10s left" in words(page(thing)), "a line that is half written waits"
        with (run / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(line(5))[20:] + "\n")
        assert "5 of 9 steps 8s left" in words(page(thing)) and "cannot be read" not in page(thing)
        write_log(run, [line(1), line(2)])
        assert "2 of 9 steps 14s left" in words(page(thing)), "a resumed run writes its log anew"
        write_log(run, [line(step) for step in range(1, 10)])
        assert "scoring the held-out pairs" in words(page(thing))
        assert "scored when the training ends" in words(ask(thing, "/pairs").content.decode())
    write_run(tmp_path / "done", steps=9, planned=9, evaluated=report())
    for name in (RUN_FILE, "eval.json"):
        (run / name).write_bytes((tmp_path / "done" / name).read_bytes())
    assert "run complete 9 of 9 steps" in words(page(thing)) and "data-live" not in page(thing)


def test_a_run_that_ended_early_says_how_to_go_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running", steps=3, planned=9)
    text = words(page(thing_of(run)))
    assert "run stopped It was stopped before its last step" in text
    assert f"To go on: hubdpo train --model-name-or-path me/base --dataset d --model-revision {'a' * 40}" in text
    assert 'data-live="10"' in page(thing_of(run)), "somebody may resume it"
    journal = Journal()
    journal.open(run, "training from step 0")
    journal.note(Entry("failed", "the loss is nan at `step` 4", "--learning-rate 1e-6"))
    html = page(thing_of(run))
    assert "run failed It failed: the loss is nan at step 4" in words(html) and "<code>step</code>" in html


def test_time_left_is_that_of_this_start(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running", steps=0, planned=10)
    # an hour a step before it was resumed, and a second since then
    write_log(run, [
        *(line(step, seconds=3600.0 * step) for step in (1, 2, 3)),
        *(line(step, seconds=step - 3.0) for step in (4, 5, 6)),
    ])  # fmt: skip
    with worked_in(run):
        assert "6 of 10 steps 4s left" in words(page(thing_of(run)))


def test_evaluations_do_not_count_in_the_speed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running", steps=0, planned=9)
    write_log(run, [line(1, seconds=1), held_out(1) | {"seconds": 9.0, "eval_runtime": 8.0}, line(2, seconds=10)])
    with worked_in(run):
        assert "1,000 tokens per second" in words(page(thing_of(run)))


def test_the_log_has_all_numbers_newest_first(tmp_path: Path) -> None:
    thing = thing_of(write_run(tmp_path / "run", steps=45, planned=45))
    first, last = page(thing), page(thing, "/curves?from=40")
    cells = re.findall(r"<tr>(.*?)</tr>", first, re.DOTALL)
    assert words(cells[0]).split() == [*line(1)]
    assert words(cells[1]).startswith("45 90 0.655 ") and len(cells) == 21
    assert "lines 41 to 45 of 45" in last and 'rel="prev" href="/curves?from=20#log"' in last
    assert words(re.findall(r"<tr>(.*?)</tr>", page(thing, "/curves?lines=held-out"), re.DOTALL)[1]).startswith(
        "44 89 "
    )


def test_a_log_of_another_program_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / RUN_FILE).unlink()
    lines = [
        "no JSON",
        "[]",
        '{"loss": 1}',
        '{"step": 1, "loss": NaN, "<i>": 1, "text": "x"}',
        '{"step": 2, "loss": 0.5}',
    ]
    (run / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    html = page(thing_of(run))
    assert "3 lines of the log cannot be read" in words(html) and "<i>" not in html and "&lt;i&gt;" in html
    assert "Values that are not finite are left out: 1." in html
    answer = ask(thing_of(run), "/options")
    assert answer.status == 404 and "no run.json" in words(answer.content.decode())


def test_a_long_log_is_thinned_and_keeps_its_extremes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    losses = [math.sin(step / 50) for step in range(1, 20_001)]
    losses[7_777] = 9.5
    write_log(run, [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)])
    thing = thing_of(run)
    assert "Of 20,000 logged steps, the lowest and the highest value in each of 600 stretches is drawn." in page(thing)
    from hubdpo.view.run.panels import panel_of
    from hubdpo.view.run.state import Run

    panel = panel_of("loss", [Run.of(thing)])
    assert panel is not None
    assert len(panel.curves[0].steps) == len(panel.curves[0].mean) <= 1_202
    assert (max(panel.curves[0].values), panel.curves[0].steps[-1]) == (9.5, 20_000)


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


def test_options_are_grouped_and_those_that_differ_come_first(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", options={"beta": 0.3, "max_length": 256}, tokenization={"response_cut": 3},
        stock_forward="it differs", peak_memory_bytes=2_500_000_000, train_seconds=61,
    )  # fmt: skip
    journal = Journal()
    journal.open(run, "training from step 0")
    journal.note(Entry("warning", "learning rate 0.003 is high"))
    text = words(page(thing_of(run), "/options"))
    first, _, everything = text.partition("All options")
    assert "--beta 0.3 0.1 Strength" in first and "--max-length 256 1024" in first and "--lora-r" not in first
    assert "hubdpo train --model-name-or-path me/base" in first and f"me/base@{'a' * 12}" in first
    assert "2.50 GB most memory" in first and "torch 2.11.0" in first
    assert "warning learning rate 0.003 is high" in first and "note the run took TRL's own forward pass" in unescape(
        first
    )
    assert "3 pairs had an answer cut" in first
    panels = [base.panel for base in TrainConfig.__mro__ if getattr(base, "panel", None)]
    assert all(f"{panel} (" in everything for panel in panels if panel != "Run")


def test_several_runs_are_drawn_together_with_what_differs(tmp_path: Path) -> None:
    places = [
        str(write_run(tmp_path / name, evaluated=report(right=right), options={"beta": beta}))
        for name, beta, right in (("one", 0.1, 15), ("two", 0.3, 18))
    ]
    thing = open_thing(places)
    html = page(thing)
    assert "The runs differ in --beta." in html and "--max-length" not in html
    assert "75.0 % (55.1–88.0)" in html and "62.5 % (42.7–78.8)" in html
    first, second = (colour.encode() for colour in THEMES["light"].series[:2])
    picture = ask(thing, "/curves/norm").content
    assert first in picture and second in picture and second not in ask(open_thing(places[:1]), "/curves/norm").content
    assert "--beta 0.3 0.1" in words(page(thing, "/options?run=2"))
    assert "run=1" in page(thing, "/pairs?run=2") and len(numbers(page(thing, "/pairs?run=2"))) == 10


def test_a_sweep_is_its_runs_the_best_first(tmp_path: Path) -> None:
    sweep, runs = tmp_path / "sweep", []
    for name, right in (("beta-0.1", 15), ("beta-0.3", 18)):
        write_run(sweep / name, evaluated=report(right=right), options={"beta": float(name[5:])})
        share = report(right=right).reward_accuracy
        runs.append(SweptRun(name=name, values={"beta": float(name[5:])}, status="complete", accuracy=share))
    waiting = SweptRun(name="beta-0.5", values={"beta": 0.5})
    SweepManifest(hubdpo_version="0.4.0", again="hubdpo sweep", runs=[*runs, waiting]).write(sweep / "sweep.json")
    thing = open_thing([str(sweep)])
    text = words(page(thing))
    assert text.index("2 beta-0.1") > text.index("1 beta-0.3") and "beta-0.5" not in text
    other = write_run(tmp_path / "other")
    assert "3 other" in words(page(open_thing([str(sweep), str(other)])))
    write_run(sweep / "beta-0.5", status="running", steps=2)
    with worked_in(sweep):
        html = page(thing)
    assert "3 beta-0.5" in words(html) and 'data-live="2"' in html
    for name in ("beta-0.1", "beta-0.3", "beta-0.5"):
        (sweep / name / RUN_FILE).unlink()
        (sweep / name / "metrics.jsonl").unlink()
    assert ask(thing).status == 404


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
