"""Further datasets are evaluated during training, each under its name, and shared pairs are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from hubdpo import prepare, push, train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import ArtefactError, ConfigError

NAMES = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}


def pair(number: int, good: str = "gladly", bad: str = "no") -> dict[str, Any]:
    messages = (("user", f"What is {number}?"), ("assistant", f"{number}, {good}."), ("assistant", f"{number}, {bad}."))
    return {side: [{"role": role, "content": text}]
            for side, (role, text) in zip(("prompt", "chosen", "rejected"), messages, strict=True)}  # fmt: skip


def prepared(folder: Path, pairs: list[dict[str, Any]], **more: Any) -> Path:
    folder.mkdir(parents=True)
    raw = folder / "pairs.jsonl"
    raw.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in pairs))
    prepare(source=[str(raw)], output_dir=folder / folder.name, license="mit", **more)
    return folder / folder.name


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    pairs = [pair(number) for number in range(24)]
    return {
        "own": prepared(folder / "own", pairs, test_size=0.25),
        "alone": prepared(folder / "alone", pairs[:4], test_size=0),
        "contrary": prepared(folder / "contrary", [pair(n, "no", "gladly") for n in range(30, 38)], test_size=0),
        "known": prepared(folder / "known", [*pairs, *(pair(n) for n in range(40, 44))], test_size=0),
    }


def options(base: str | Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": data, "output_dir": run, "max_steps": 2, "max_length": 128,
        "learning_rate": 3e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "eval_steps": 1,
        "warmup_steps": 0, "load_in_4bit": False, **more,
    }  # fmt: skip


def logged(run: Path, key: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


@pytest.mark.slow
def test_each_set_has_its_metrics_in_log_manifest_and_card(
    tiny_base_repo: str, data: dict[str, Path], tmp_path: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    sets = [str(data["contrary"]), f"seen={data['known']}"]
    found = train(**options(tiny_base_repo, data["own"], run, eval_dataset=sets))
    told = capsys.readouterr().err
    train(**options(tiny_base_repo, data["own"], alone))
    assert (run / "adapter_model.safetensors").read_bytes() == (alone / "adapter_model.safetensors").read_bytes()
    assert logged(run, "eval_loss") == logged(alone, "eval_loss")
    assert logged(run, "eval_rewards/accuracies") == logged(alone, "eval_rewards/accuracies")

    right, wrong = logged(run, "eval_rewards/margins"), logged(run, "eval_contrary_rewards/margins")
    assert len(right) == len(wrong) == len(logged(run, "eval_seen_loss")) == 2
    assert right[-1] > 0 > wrong[-1], "each set has its own metrics"
    assert found.metrics["eval_contrary_rewards/margins"] == wrong[-1]

    recorded = RunManifest.read(run / "run.json").evaluation_sets
    trained = found.dataset.train_pairs
    facts = {name: (each.pairs, each.in_train) for name, each in recorded.items()}
    assert facts == {"contrary": (8, 0), "seen": (28, trained)}
    assert f"warning: {trained} pairs of `seen` in the train split too" in told
    assert "contrary 2/2  loss " in told
    push(run, repo_id, version="0.1.0")
    card = (run / "README.md").read_text()
    assert f"| `contrary`, split `train` | 8 | 0 | {found.metrics['eval_contrary_loss']:.4f} |" in card
    assert str(tmp_path) not in (run / "run.json").read_text()


@pytest.mark.slow
def test_a_run_says_on_how_many_held_out_pairs_it_is_evaluated(
    tiny_base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(**options(tiny_base, data["own"], tmp_path / "run", max_eval_pairs=2, max_steps=1))
    assert found.eval_pairs == 2
    assert f"evaluates the first 2 of {found.test_pairs} held-out pairs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dataset_without_a_test_split_is_evaluated_on_the_sets(
    tiny_base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    found = train(**options(tiny_base, data["alone"], run, eval_dataset=[data["own"]], reference="cached"))
    assert len(logged(run, "eval_own_loss")) == 2
    assert not logged(run, "eval_loss")
    assert (found.evaluation_sets["own"].split, found.evaluation_sets["own"].pairs) == (
        "test",
        found.evaluation_sets["own"].dataset.test_pairs,
    )


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["me/pairs@v1.0.0"], ["pairs"]), (["data/held out/"], ["held-out"]), (["hard=data/x"], ["hard"]),
        (["a/x", "y=b/x"], ["x", "y"]), ([], []),
    ],
)  # fmt: skip
def test_a_set_is_named_by_its_place(given: list[str], names: list[str]) -> None:
    assert list(TrainConfig.build({**NAMES, "eval_dataset": given}).evaluation_sets) == names


@pytest.mark.parametrize(
    ("given", "words", "hint"),
    [
        ("a/b=data", "the name may have letters", "--eval-dataset a-b=data"),
        ("my set=data", "the name may have letters", "--eval-dataset my-set=data"),
        ("=me/data@v1.0.0", "the name may have letters", "--eval-dataset data=me/data@v1.0.0"),
        ("hard=", "the dataset is missing", "--eval-dataset hard=DATASET"),
    ],
)
def test_what_is_no_name_of_a_set_is_refused_with_one(given: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"of `{given}` {words}") as caught:
        TrainConfig.build({**NAMES, "eval_dataset": ["me/x", given]})
    assert caught.value.hint == f"--eval-dataset me/x {hint}"


def test_a_folder_and_a_revision_may_have_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b=c").mkdir()
    given = ["a b=c", "me/pairs@x=1"]
    assert TrainConfig.build({**NAMES, "eval_dataset": given}).evaluation_sets == {"a-b-c": given[0], "pairs": given[1]}


def test_two_sets_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two sets have the name `x`") as caught:
        TrainConfig.build({**NAMES, "eval_dataset": ["a/x", "b/x"]})
    assert caught.value.hint == "give one another: --eval-dataset NAME=DATASET"


def test_the_set_that_lacks_a_column_is_named(data: dict[str, Path], tmp_path: Path) -> None:
    weighed = prepared(tmp_path / "weighed", [{**pair(number), "w": 1} for number in range(8)], keep=["w"], test_size=0)
    given = options("no/base", weighed, tmp_path / "run", eval_dataset=[f"more={data['alone']}"], weight_column="w")
    with pytest.raises(ConfigError, match=f"`{data['alone']}` has no column `w`"):
        train(**given)


def test_a_set_that_is_not_there_is_refused_before_the_base_is_loaded(
    tiny_base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match="dataset folder not found"):
        train(**options(tiny_base, data["own"], tmp_path / "run", eval_dataset=["./nowhere"]))
    assert not (tmp_path / "run").exists()
