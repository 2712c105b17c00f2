"""Where a tracker shows a run: recorded and linked if others can open it, and never with a key."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.tracked_run import TrackedRun, public_address
from hubdpo.config.trackers import TRACKERS
from hubdpo.training.run import tracked
from hubdpo.training.run.tracked import ADDRESSES, TrackedRuns, tracked_runs
from tests.cards.made import adapter_card, findings_in, run_manifest

URL = "https://wandb.ai/acme/dpo/runs/3xk2"


def holder(value: object) -> Any:
    return SimpleNamespace(get=lambda: value)


def fakes(url: str) -> dict[str, Any]:
    """Each tracker's module, with a run at an address that holds `url`."""
    task = SimpleNamespace(get_output_log_web_page=lambda: url)
    swan = SimpleNamespace(public=SimpleNamespace(cloud=SimpleNamespace(experiment_url=url)))
    run = SimpleNamespace(info=SimpleNamespace(experiment_id="7", run_id="ab12"))
    return {
        "wandb": SimpleNamespace(run=SimpleNamespace(url=url)),
        "trackio": SimpleNamespace(context_vars=SimpleNamespace(current_space_id=holder("acme/curves"))),
        "mlflow": SimpleNamespace(active_run=lambda: run, get_tracking_uri=lambda: f"{url}/"),
        "swanlab": SimpleNamespace(get_run=lambda: swan),
        "comet_ml": SimpleNamespace(get_running_experiment=lambda: SimpleNamespace(url=url)),
        "clearml": SimpleNamespace(Task=SimpleNamespace(current_task=lambda: task)),
    }


NOTHING: dict[str, Any] = {
    "wandb": SimpleNamespace(run=None),
    "trackio": SimpleNamespace(context_vars=SimpleNamespace(current_space_id=holder(None))),
    "mlflow": SimpleNamespace(active_run=lambda: None, get_tracking_uri=lambda: URL),
    "swanlab": SimpleNamespace(get_run=lambda: None),
    "comet_ml": SimpleNamespace(get_running_experiment=lambda: None),
    "clearml": SimpleNamespace(Task=SimpleNamespace(current_task=lambda: None)),
}
SHOWN = {"trackio": "https://huggingface.co/spaces/acme/curves", "mlflow": f"{URL}/#/experiments/7/runs/ab12"}


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_address_of_a_run_is_asked_of_its_tracker(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, fakes(URL)[name])
    assert tracked_runs([name]) == [TrackedRun(tracker=name, url=SHOWN.get(name, URL))]
    monkeypatch.setitem(sys.modules, name, NOTHING[name])
    assert tracked_runs([name]) == []


def test_trackers_that_write_files_alone_have_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(ADDRESSES) < set(TRACKERS)
    for name in set(TRACKERS) - set(ADDRESSES):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
        assert tracked_runs([name]) == []


def test_a_tracker_that_is_not_loaded_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    assert tracked_runs(["wandb"]) == []


def test_a_tracker_that_fails_does_not_end_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "comet_ml", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "wandb", fakes(URL)["wandb"])
    assert [run.tracker for run in tracked_runs(["comet_ml", "wandb"])] == ["wandb"]
    assert "comet_ml does not tell the address of the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "public"),
    [
        (URL, URL),
        (f"{URL}?apiKey=0123456789", URL),
        ("https://mlflow.acme.com:8443/#/experiments/1/runs/2", "https://mlflow.acme.com:8443/#/experiments/1/runs/2"),
        ("https://me:secret@wandb.ai/x", None),
        ("https://token@wandb.ai/x", None),
        ("http://wandb.ai/x", None),
        ("https://localhost:5000/x", None),
        ("https://tracker/x", None),
        ("https://gpu7.local/x", None),
        ("https://127.0.0.1/x", None),
        ("https://10.0.0.7:5000/x", None),
        ("file:///home/me/mlruns", None),
        ("/home/me/mlruns", None),
        ("./mlruns/#/experiments/1/runs/2", None),
        ("https://wandb.ai/x) [y](https://evil.example/", None),
        ("https://wandb.ai/<b>", None),
        ("", None),
    ],
)
def test_only_an_address_that_others_can_open_is_recorded(given: str, public: str | None) -> None:
    assert public_address(given) == public


@pytest.mark.parametrize(
    "changes", [{"url": f"{URL}?key=1"}, {"url": "javascript:alert(1)"}, {"tracker": "](x)"}, {"tracker": ""},
                {"url": "https://wandb.ai/" + "x" * 500}], ids=str,
)  # fmt: skip
def test_a_manifest_with_another_address_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TrackedRun.model_validate({"tracker": "wandb", "url": URL} | changes)


def test_a_key_in_the_path_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "hf_" + "aB3dE6gH9j" * 3 + "kLmN"
    monkeypatch.setitem(sys.modules, "wandb", fakes(f"https://wandb.ai/{key}")["wandb"])
    assert tracked_runs(["wandb"]) == []


def test_the_run_asks_when_training_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = TrackedRuns(["wandb"])
    monkeypatch.setitem(sys.modules, "wandb", fakes(URL)["wandb"])
    assert callback.runs == []
    callback.on_train_begin(None, None, None)
    assert [run.url for run in callback.runs] == [URL]


def test_a_run_records_its_tracker(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracked, "tracked_runs", lambda names: [TrackedRun(tracker="wandb", url=URL)])
    train(
        model_name_or_path=str(tiny_base), dataset=str(dataset_dir), output_dir=tmp_path / "run", max_steps=1,
        load_in_4bit=False, device="cpu",
    )  # fmt: skip
    assert [run.url for run in RunManifest.read(tmp_path / "run" / "run.json").tracked] == [URL]


def test_the_card_links_to_the_trackers() -> None:
    space = "https://huggingface.co/spaces/acme/curves"
    runs = [TrackedRun(tracker="wandb", url=URL), TrackedRun(tracker="trackio", url=space)]
    text = adapter_card(run_manifest(tracked=runs))
    assert f"The curves are also in [Weights & Biases]({URL}) and [Trackio]({space})." in text
    assert f"trackio:{space}" in text.split("---")[1]
    assert findings_in(text) == []
    assert "curves are also" not in adapter_card()
