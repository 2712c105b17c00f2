"""Options and warnings of runs, and several runs and sweeps, without a browser."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubdpo import console
from hubdpo.artefacts.folders.journal import Entry, Journal, read_journal
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.artefacts.manifests.run import DatasetRef
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun
from hubdpo.config.train import TrainConfig
from hubdpo.errors import TrainingError
from hubdpo.view.open import open_thing
from hubdpo.view.plots import THEMES
from hubdpo.view.run import data as run_data
from tests.view.ask import ask, page, words
from tests.view.made_datasets import made_up, pair, thing_of, write_dataset
from tests.view.made_runs import PAIRS, report, worked_in, write_run


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
    assert "run=1" in page(thing, "/pairs?run=2") and page(thing, "/pairs?run=2").count("<article") == 10


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


def test_a_run_of_several_processes_keeps_what_its_launcher_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubdpo.training import train as stage
    from hubdpo.training.common import Common

    config = TrainConfig(model_name_or_path="b", dataset="d", output_dir=tmp_path / "run", num_processes=2)

    def launched(config: TrainConfig) -> None:
        write_run(tmp_path / "run", status="running")
        raise TrainingError("the device ran out of memory")

    monkeypatch.setattr(stage, "launch", launched)
    journal = Journal()
    with pytest.raises(TrainingError), journal.kept():
        console.warn("the tokenizer is another")
        stage.train(config, Common(), journal)
    kinds = [(entry.kind, entry.text) for entry in read_journal(tmp_path / "run")]
    assert kinds == [
        ("began", "2 processes"), ("warning", "the tokenizer is another"), ("failed", "the device ran out of memory")
    ]  # fmt: skip
    assert "run failed" in words(page(thing_of(tmp_path / "run")))


def test_a_run_and_its_data_are_read_from_a_hub_elsewhere(
    repo_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_data, "WAIT_S", 60)
    api = HfApi()
    rows = [pair(f"question {row}", f"good answer {row}", f"bad answer {row}") for row in range(PAIRS)]
    data = write_dataset(tmp_path / "data", {"train": made_up(3), "test": rows})
    api.create_repo(f"{repo_id}-data", repo_type="dataset")
    revision = api.upload_folder(repo_id=f"{repo_id}-data", folder_path=data, repo_type="dataset").oid
    ref = DatasetRef(
        name="data", repo_id=f"{repo_id}-data", revision=revision, fingerprint="0" * 64, train_pairs=3, test_pairs=PAIRS
    )
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=write_run(tmp_path / "run", evaluated=report(), dataset=ref))
    thing = open_thing([repo_id])
    assert "8 of 8 steps" in words(page(thing)) and "data-live" not in page(thing)
    assert "question 23" in page(thing, "/pairs") and "question 3" in page(thing, "/pairs?row=3")
