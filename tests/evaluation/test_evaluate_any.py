"""Evaluate a release, an adapter of another tool and a merged model, on several datasets, beside another adapter."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hubdpo import evaluate, merge, prepare, push
from hubdpo.artefacts.manifests.evaluation import EvalReport, Ranking
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.cli.app import app
from hubdpo.config import EvaluateConfig
from hubdpo.errors import ArtefactError, ConfigError, TrainingError
from hubdpo.evaluation import models as loading
from hubdpo.evaluation import scoring
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.subject import find_subject
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.model.adapters.start import find_start
from hubdpo.model.bases.find import find_base
from hubdpo.model.log_probs import answer_log_probs
from tests.local_base import copy_on_folder
from tests.near import assert_near

pytestmark = pytest.mark.slow
FAST = {"max_answers": 0, "max_length": 128}


@pytest.fixture(scope="module")
def report(run_dir: Path) -> EvalReport:
    return EvalReport.read(run_dir / "eval.json")


@pytest.fixture
def foreign(run_dir: Path, tmp_path: Path) -> Path:
    """The adapter as another tool leaves it: weights and config, and nothing that says how it was trained."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(run_dir / name, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "revision": None}))
    return folder


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a train split alone, whose answers are the wrong way round."""
    folder = tmp_path_factory.mktemp("other")
    turned = [
        {
            "prompt": f"Question {i}: what is {i} plus one?",
            "chosen": f"No idea about {i}.",
            "rejected": f"It is {i + 1}.",
        }
        for i in range(6)
    ]
    prepare(turned, folder / "turned", test_size=0)
    return folder / "turned"


def same_ranking(found: Ranking, wanted: Ranking) -> None:
    assert (found.pairs, found.weights) == (wanted.pairs, wanted.weights)
    assert found.adapter_accuracy == wanted.adapter_accuracy
    for name in ("base_margin", "adapter_margin"):
        assert_near(getattr(found, name), getattr(wanted, name), share=1e-5, scale=1)


def test_a_run_is_measured_on_nf4_and_on_the_original_weights(report: EvalReport) -> None:
    assert (report.weights, report.original and report.original.weights) == ("NF4, computed in float32", "float32")
    assert report.original is not None
    assert report.original.base_margin != report.base_margin
    assert report.samples_weights == "float32"


def test_a_release_is_evaluated_where_it_is(
    run_dir: Path, dataset_dir: Path, report: EvalReport, repo_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(folder=shutil.copytree(run_dir, tmp_path / "run"), repo=repo_id, version="1.0.0")
    monkeypatch.chdir(tmp_path)
    found = evaluate(f"{repo_id}@v1.0.0", dataset=dataset_dir, **FAST)
    same_ranking(found, report)
    assert EvalReport.read(tmp_path / f"evaluation-{repo_id.replace('/', '-')}-v1.0.0" / "eval.json") == found


def test_an_adapter_of_another_tool_is_measured_as_that_of_the_run(
    foreign: Path, dataset_dir: Path, report: EvalReport, tmp_path: Path
) -> None:
    found = evaluate(foreign, dataset=dataset_dir, load_in_4bit=True, output_dir=tmp_path / "out", **FAST)
    same_ranking(found, report)
    assert found.original is not None
    assert report.original is not None
    same_ranking(found.original, report.original)
    assert sorted(path.name for path in foreign.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_a_merged_model_is_compared_with_the_base_that_it_was_merged_into(
    run_dir: Path, dataset_dir: Path, report: EvalReport, tmp_path: Path
) -> None:
    merge(run_dir, tmp_path / "merged", dtype="float32", base_weights="original")
    found = evaluate(tmp_path / "merged", dataset=dataset_dir, output_dir=tmp_path / "out", **FAST)
    assert report.original is not None
    assert found.original is None
    same_ranking(found, report.original)


def test_several_datasets_are_scored_each(run_dir: Path, dataset_dir: Path, other_data: Path, tmp_path: Path) -> None:
    found = evaluate(
        run_dir, dataset=[dataset_dir, other_data], base_weights="original", output_dir=tmp_path / "out", **FAST
    )
    (further,) = found.further
    assert found.dataset is not None
    assert (found.dataset.name, further.dataset.name, further.dataset.split) == ("prepared", "turned", "train")
    assert further.as_trained.pairs == 6
    # its answers are the wrong way round, and what the run learned is right of none of them
    assert further.as_trained.adapter_accuracy.value < 0.5 < found.adapter_accuracy.value


def test_another_adapter_ranks_the_same_pairs(
    run_dir: Path, foreign: Path, dataset_dir: Path, report: EvalReport, tmp_path: Path
) -> None:
    weights = load_file(foreign / "adapter_model.safetensors")
    save_file({name: weight * -2 for name, weight in weights.items()}, foreign / "adapter_model.safetensors")
    alone = evaluate(foreign, dataset=dataset_dir, base_weights="original", output_dir=tmp_path / "alone", **FAST)
    beside = evaluate(run_dir, against=foreign, base_weights="original", output_dir=tmp_path / "out", **FAST)
    assert beside.other is not None
    assert beside.other.accuracy == alone.adapter_accuracy
    assert_near(beside.other.margin.value, alone.adapter_margin, share=1e-5, scale=1)
    assert_near(
        beside.other.margin_gain.value, beside.adapter_margin - alone.adapter_margin, share=1e-5, scale=1
    )  # fmt: skip
    assert beside.against is not None
    assert beside.against.name == "foreign"
    assert report.original is not None
    same_ranking(beside, report.original)


def counted_answers(monkeypatch: pytest.MonkeyPatch, *, fail_after: int = 10**9) -> list[int]:
    """Count the answers of each forward pass that scores, and fail after so many passes."""
    asked: list[int] = []

    def counted(model: Any, sequences: Any) -> Any:
        if len(asked) == fail_after:
            raise KeyboardInterrupt
        asked.append(len(sequences))
        return answer_log_probs(model, sequences)

    monkeypatch.setattr(scoring, "answer_log_probs", counted)
    return asked


def test_a_stopped_evaluation_goes_on_and_scores_nothing_twice(
    run_dir: Path, report: EvalReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    shutil.rmtree(run / "evaluation")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        first = counted_answers(patch, fail_after=5)
        evaluate(run, max_answers=0)
    with monkeypatch.context() as patch:
        second = counted_answers(patch)
        found = evaluate(run, max_answers=0)
    same_ranking(found, report)
    answers, states, models = 2 * report.pairs, 2, 2
    assert sum(first) + sum(second) == answers * states * models
    with monkeypatch.context() as patch:
        third = counted_answers(patch)
        assert evaluate(run, max_answers=0) == found
    assert third == []


def test_a_line_that_a_kill_cut_short_is_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evaluation" / "scores.jsonl"
    Kept(path, scoring.SCORES).add({"a": {"sum": 1.5}, "b": {"sum": 2.5}})
    path.write_bytes(path.read_bytes()[:-5])
    again = Kept(path, scoring.SCORES)
    assert (again.get("a"), again.get("b")) == ({"sum": 1.5}, None)
    assert "1 line cannot be read" in capsys.readouterr().err
    again.add({"b": {"sum": 3.5}})
    assert (Kept(path, scoring.SCORES).get("a"), Kept(path, scoring.SCORES).get("b")) == ({"sum": 1.5}, {"sum": 3.5})


def test_other_weights_have_scores_of_their_own(run_dir: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    before = (run / "evaluation" / "scores.jsonl").read_bytes()
    config = json.loads((run / "adapter_config.json").read_text())
    (run / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1}))
    manifest = json.loads((run / RUN_FILE).read_text())
    (run / RUN_FILE).write_text(json.dumps({**manifest, "files": {}}))
    evaluate(run, base_weights="original", max_answers=0)
    after = (run / "evaluation" / "scores.jsonl").read_bytes()
    # the adapter's scores are new, those of the base are kept
    assert after.startswith(before)
    assert after[len(before) :].count(b"\n") * 4 == before.count(b"\n")


def test_the_adapter_that_a_run_started_from_is_told_by_all_that_it_computes(foreign: Path, tiny_base: Path) -> None:
    start, base = find_start(str(foreign)), find_base(str(tiny_base))
    subject = find_subject(EvaluateConfig.build({"model": str(foreign)}))
    keys = []
    for alpha in (8, 16):
        change_config(foreign, "adapter_config.json", lora_alpha=alpha)
        keys.append(loading._keys(loading.Parts(subject, base, start, None), "float32", "cpu"))
    assert keys[0]["start"] != keys[1]["start"]
    assert keys[0]["base"] == keys[1]["base"]


def test_original_weights_that_do_not_fit_are_left_out_and_said(
    run_dir: Path,
    report: EvalReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = loading.load_base

    def load_if_small(folder: Path, *, load_in_4bit: bool, **options: Any) -> Any:
        if not load_in_4bit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(folder, load_in_4bit=load_in_4bit, **options)

    monkeypatch.setattr(loading, "load_base", load_if_small)
    found = evaluate(run_dir, output_dir=tmp_path / "out", max_answers=0)
    assert found.original is None
    assert found.samples_weights == "NF4, computed in float32"
    same_ranking(found, report)
    assert "the original weights of the base are not measured: the device has no room" in capsys.readouterr().err
    with pytest.raises(TrainingError):
        evaluate(run_dir, base_weights="original", output_dir=tmp_path / "out", max_answers=0)


def no_data(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    return {"model": foreign}


def contradiction(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    return {"model": run, "load_in_4bit": False}


def whole_model(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    return {"model": base}


def whole_model_beside(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    return {"model": run, "against": base, "model_name_or_path": base}


def of_another_base(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    config = json.loads((foreign / "adapter_config.json").read_text())
    (foreign / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "me/other"}))
    return {"model": run, "against": foreign}


def of_the_base_before_a_change(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    folder = foreign.parent
    changed = Path(shutil.copytree(base, folder / "base"))
    other = copy_on_folder(run, folder / "other", changed)
    change_config(changed, rms_norm_eps=1e-2)
    change_config(other, "adapter_config.json", lora_alpha=1)
    return {"model": copy_on_folder(run, folder / "run", changed), "against": other}


def trained_before_a_change(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    changed = Path(shutil.copytree(base, foreign.parent / "base"))
    model = copy_on_folder(run, foreign.parent / "run", changed)
    change_config(changed, rms_norm_eps=1e-2)
    return {"model": model}


def change_config(folder: Path, name: str = "config.json", **values: Any) -> None:
    (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **values}))


def base_of_another_machine(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    config = json.loads((foreign / "adapter_config.json").read_text())
    (foreign / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/home/x/base"}))
    return {"model": foreign, "dataset": run}


def against_itself(foreign: Path, run: Path, base: Path) -> dict[str, Any]:
    return {"model": run, "against": run}


REFUSED: list[tuple[Callable[[Path, Path, Path], dict[str, Any]], type[Exception], str, str]] = [
    (no_data, ConfigError, "does not say where the pairs are", "--dataset"),
    (contradiction, ConfigError, "was trained on NF4 weights", "--base-weights original"),
    (whole_model, ConfigError, "is a whole model, and names no base", "--model-name-or-path"),
    (whole_model_beside, ConfigError, "is a whole model, not an adapter", "give an adapter"),
    (of_another_base, ConfigError, "is an adapter of me/other, not of alice/tiny-qwen2", "the same base"),
    (of_the_base_before_a_change, ConfigError, "other` is an adapter of another base than ", "the same base"),
    (trained_before_a_change, ConfigError, "holds another base than the run was trained on", "--model-name-or-path"),
    (against_itself, ConfigError, "is the adapter that is evaluated", "another"),
    (base_of_another_machine, ArtefactError, "is a run, not a dataset", "hubdpo prepare"),
]


@pytest.mark.parametrize(("case", "error", "message", "hint"), REFUSED, ids=lambda each: getattr(each, "__name__", ""))
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    case: Callable[[Path, Path, Path], dict[str, Any]], error: type[Exception], message: str, hint: str,
    foreign: Path, run_dir: Path, tiny_base: Path, tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message) as caught:
        evaluate(**case(foreign, run_dir, tiny_base), output_dir=tmp_path / "out")
    assert hint in (getattr(caught.value, "hint", "") or "")
    assert not (tmp_path / "out").exists()


def test_the_base_of_another_machine_is_asked_for(foreign: Path, dataset_dir: Path, tmp_path: Path) -> None:
    base_of_another_machine(foreign, foreign, foreign)
    with pytest.raises(ConfigError, match="names the base '/home/x/base', which is not on this machine") as caught:
        evaluate(foreign, dataset=dataset_dir, output_dir=tmp_path / "out")
    assert caught.value.hint == "add `--model-name-or-path BASE`"


def test_of_several_datasets_the_one_is_named_of_which_no_pair_can_be_scored(
    run_dir: Path, other_data: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": f"What is {i}?", "chosen": f"It is {i}.", "rejected": "It is."} for i in range(6)]
    prepare(rows, tmp_path / "alike", test_size=0.5)
    with pytest.raises(ArtefactError, match="no pair of the `alike test` split can be scored"):
        evaluate(run_dir, dataset=[tmp_path / "alike", other_data], max_length=2, output_dir=tmp_path / "out")


def test_pairs_that_were_trained_on_are_not_held_out(run_dir: Path, other_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    manifest = json.loads((run / RUN_FILE).read_text())
    trained_on = json.loads((other_data / "prepare.json").read_text())["fingerprint"]
    manifest["dataset"]["fingerprint"] = trained_on
    (run / RUN_FILE).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=f"`{other_data}` has no test split"):
        evaluate(run, dataset=other_data)


def test_what_is_kept_stays_on_this_machine(run_dir: Path, repo_id: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    assert (run / "evaluation" / "scores.jsonl").is_file()
    assert not [name for name in FolderSnapshot(run).files if name.startswith("evaluation")]
    push(folder=run, repo=repo_id, version="1.0.0")
    assert not [name for name in HfApi().list_repo_files(repo_id) if name.startswith("evaluation")]


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "run the same command again: it goes on from what is kept"),
        (OSError(errno.ENOSPC, "No space left on device"), 9, "what was computed is kept"),
    ],
)
def test_what_ends_an_evaluation_says_how_it_goes_on(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException, code: int, words: str
) -> None:
    def failing(*args: object, **options: object) -> None:
        raise problem

    monkeypatch.setattr(Kept, "add", failing)
    done = CliRunner().invoke(app, ["evaluate", str(run_dir), "-o", str(tmp_path / "out")])
    assert done.exit_code == code, done.output
    assert words in " ".join(done.output.split())


def test_the_terminal_shows_every_dataset_state_and_adapter(
    run_dir: Path, foreign: Path, dataset_dir: Path, other_data: Path, tmp_path: Path
) -> None:
    weights = load_file(foreign / "adapter_model.safetensors")
    save_file({name: -weight for name, weight in weights.items()}, foreign / "adapter_model.safetensors")
    words = ["evaluate", str(run_dir), "--dataset", str(dataset_dir), "--dataset", str(other_data)]
    words += ["--against", str(foreign), "-o", str(tmp_path / "out"), "--max-answers", "0"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    shown = [(line[0], "NF4," in line[1:4]) for line in lines if line and line[0] in ("prepared", "turned")]
    # of base and adapter, then of the other adapter and the adapter
    assert shown == [("prepared", False), ("prepared", True), ("turned", False), ("turned", True)] * 2


def retrained_data(dataset_dir: Path, folder: Path) -> Path:
    """The pairs that the run was trained on, prepared once more, with one that it never saw."""
    rows = pq.read_table(next((dataset_dir / "data").glob("train-*.parquet"))).to_pylist()
    rows = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows[:7]]
    rows.append({"prompt": "Is this one new?", "chosen": "It is.", "rejected": "No."})
    prepare(rows, folder, test_size=0)
    return folder


def test_pairs_that_the_training_saw_are_counted_and_not_called_held_out(
    run_dir: Path, dataset_dir: Path, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    data = retrained_data(dataset_dir, tmp_path / "again")
    found = evaluate(run, dataset=data, base_weights="original", max_answers=0)
    assert found.dataset is not None
    assert (found.dataset.in_train, found.dataset.is_held_out, found.pairs) == (7, False, 8)
    assert "7 pairs of `again` were in the training data" in " ".join(capsys.readouterr().err.split())
    push(folder=run, repo=repo_id, version="1.0.0")
    card = " ".join((run / "README.md").read_text().split())
    assert "of 8 pairs of `again`, 7 of which were in the training data" in card
    assert "held-out pairs" not in card.partition("## Files")[0]
    assert "Preference ranking (held out)" not in card


def test_what_the_training_saw_may_not_be_known(
    foreign: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(foreign, dataset=dataset_dir, base_weights="original", output_dir=tmp_path / "out", **FAST)
    assert found.dataset is not None
    assert (found.dataset.in_train, found.dataset.is_held_out) == (None, False)
    assert "not known whether the training saw the pairs of `prepared`" in " ".join(capsys.readouterr().err.split())


def test_the_test_split_of_the_training_data_is_held_out(run_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    found = evaluate(
        run_dir, dataset=[dataset_dir, f"{dataset_dir}/"], base_weights="original", output_dir=tmp_path / "out", **FAST
    )
    assert found.dataset is not None
    assert (found.dataset.in_train, found.dataset.is_held_out) == (0, True)
    assert found.further == []  # the same folder twice


def test_folders_of_one_name_are_told_apart(run_dir: Path, dataset_dir: Path, other_data: Path, tmp_path: Path) -> None:
    same = Path(shutil.copytree(other_data, tmp_path / dataset_dir.name))
    found = evaluate(
        run_dir, dataset=[dataset_dir, same], base_weights="original", output_dir=tmp_path / "out", **FAST
    )  # fmt: skip
    assert found.dataset is not None
    assert [found.dataset.name, *(each.dataset.name for each in found.further)] == ["prepared", "prepared (2)"]


def test_the_evaluation_of_another_model_is_not_overwritten(
    foreign: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"dataset": dataset_dir, "base_weights": "original", **FAST}
    first = evaluate(foreign, **options)
    weights = load_file(foreign / "adapter_model.safetensors")
    save_file({name: -weight for name, weight in weights.items()}, foreign / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="`evaluation-foreign` has the evaluation of another model"):
        evaluate(foreign, **options)
    assert EvalReport.read(tmp_path / "evaluation-foreign" / "eval.json") == first
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        evaluate(foreign, output_dir=tmp_path / "file", **options)


def test_no_evaluation_goes_into_what_another_stage_made(
    foreign: Path, run_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    for made, what in ((dataset_dir, "a dataset"), (run_dir, "a run")):
        output = Path(shutil.copytree(made, tmp_path / what))
        before = sorted(output.rglob("*"))
        with pytest.raises(ConfigError, match=f"is {what}, and the results need a folder of their own"):
            evaluate(foreign, dataset=dataset_dir, output_dir=output, **FAST)
        assert sorted(output.rglob("*")) == before


def test_the_run_folder_may_be_named_as_the_output(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    found = evaluate("run", output_dir=run, base_weights="original", max_answers=0)
    assert EvalReport.read(run / "eval.json") == found
