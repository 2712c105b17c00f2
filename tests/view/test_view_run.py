"""The curves of a run and its log, without a browser."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from pathlib import Path

import pytest

from hubdpo.artefacts.folders.journal import Entry, Journal
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.artefacts.manifests.run import AdapterRef, Adopted, Change
from hubdpo.view.open import open_thing
from hubdpo.view.thing import Thing
from tests.view.ask import ask, page, words
from tests.view.made_datasets import thing_of
from tests.view.made_runs import held_out, line, report, worked_in, write_log, write_run


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


def test_an_adopted_adapter_shows_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    source = AdapterRef(name="out", sha256="0" * 64)
    folder = write_run(
        tmp_path / "run", adopted=Adopted(source=source, tool="TRL", tool_version="1.16.0"), dataset=None, device=None,
        seed=None, steps=8, planned_steps=None, versions={}, config={"lora_r": 4},
    )  # fmt: skip
    text = words(page(thing_of(folder), "/options"))
    assert (
        "Another tool trained this adapter. Not known: data, quantisation of the base model, method, loss, β," in text
    )
    assert "Trained by TRL 1.16.0; adopted from out" in text
    assert f"hubdpo adopt out --base me/base@{'a' * 40} --output-dir" in text
    assert curves(thing_of(folder)) == ["loss", "accuracy", "margin", "logps", "rate", "norm", "speed"]
    assert b"hubdpo evaluate" in ask(thing_of(folder), "/pairs").content


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


def test_held_out_figures_name_the_pairs_they_are_of(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", options={"max_eval_pairs": 5}, eval_pairs=5)
    text = words(page(thing_of(run)))
    assert "held-out loss on the first 5 of 24 pairs" in text
    assert "held-out reward accuracy on the first 5 of 24 pairs" in text


def test_a_note_on_chance_counts_the_pairs_that_were_evaluated(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=12, planned=12, options={"max_eval_pairs": 5}, eval_pairs=5)
    assert "which 5 pairs cannot tell from chance" in words(page(thing_of(folder), "/options"))


def test_time_left_is_that_of_this_start(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running", steps=0, planned=10)
    # an hour a step before it was resumed, and a second since then
    write_log(run, [
        *(line(step, seconds=3600.0 * step) for step in (1, 2, 3)),
        *(line(step, seconds=step - 3.0) for step in (4, 5, 6)),
    ])  # fmt: skip
    with worked_in(run):
        assert "6 of 10 steps 4s left" in words(page(thing_of(run)))


def test_time_left_is_that_since_the_machine_changed(tmp_path: Path) -> None:
    changes = [Change(step=3, values={"hardware": ("cpu", "NVIDIA H100")})]
    run = write_run(tmp_path / "run", status="running", steps=0, planned=10, changes=changes)
    slow = [line(step, seconds=3600.0 * step) for step in (1, 2, 3)]
    write_log(run, [*slow, *(line(step, seconds=3600.0 * 3 + step - 3.0) for step in (4, 5, 6))])
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

    panel = panel_of("loss", [Run(thing)])
    assert panel is not None
    assert len(panel.curves[0].steps) == len(panel.curves[0].mean) <= 1_202
    assert (max(panel.curves[0].values), panel.curves[0].steps[-1]) == (9.5, 20_000)


def test_a_run_that_is_just_starting_is_waited_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with worked_in(run):
        thing = open_thing([str(run)])
        html = page(thing)
        assert "starting: nothing is written yet" in words(html) and 'data-live="2"' in html
        assert "written nothing yet" in words(ask(thing, "/options").content.decode())
        made = write_run(tmp_path / "made", status="running", steps=2)
        for name in (RUN_FILE, "metrics.jsonl"):
            (run / name).write_bytes((made / name).read_bytes())
        assert "run training 2 of 8 steps" in words(page(thing))


@pytest.mark.parametrize("step", ["Infinity", "NaN", "1e300", "-1"])
def test_a_line_of_no_step_is_counted_as_damaged(tmp_path: Path, step: str) -> None:
    thing = thing_of(write_run(tmp_path / "run", evaluated=report()))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(f'{{"step": {step}, "loss": 1}}\n')
    assert "1 line of the log cannot be read" in words(page(thing))
    assert ask(thing, "/curves/loss").status == 200


def test_values_beyond_what_can_be_drawn_are_left_out(tmp_path: Path) -> None:
    thing = thing_of(write_run(tmp_path / "run", evaluated=report()))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        for step, loss in ((9, "1e308"), (10, "-1e308"), (11, "NaN"), (12, "Infinity"), (13, "0.5")):
            file.write(f'{{"step": {step}, "loss": {loss}, "rewards/margins": {loss}}}\n')
    for name in ("loss", "margin"):
        assert ask(thing, f"/curves/{name}").status == 200
