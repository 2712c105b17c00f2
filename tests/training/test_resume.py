"""Resume a run: with other options, for longer, after Ctrl-C, after running out of memory, after a failed start."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import killed_copy
from safetensors.torch import load_file
from typer.testing import CliRunner

from hubdpo import evaluate, load_adapter, merge, push, train
from hubdpo.artefacts.folders.run_folder import write_places
from hubdpo.artefacts.manifests.manifest import canonical_json
from hubdpo.artefacts.manifests.run import AdapterRef, BaseRef, Change, DatasetRef, RunManifest
from hubdpo.cards.commands import train_command
from hubdpo.cli.app import app
from hubdpo.config import TrainConfig
from hubdpo.config.roles import Role
from hubdpo.errors import ArtefactError, ConfigError, ResumeMismatch, Stopped, TrainingError
from hubdpo.training import start
from hubdpo.training import train as stage
from hubdpo.training.preflight import out_of_memory
from hubdpo.training.run import output_folder
from hubdpo.training.run.output_folder import MARKER, Checkpoint, check_output_folder, mark_complete
from hubdpo.training.run.record import published_config
from hubdpo.training.run.resume import EarlierRun, check_same_experiment, note_changes, steps_to_take
from hubdpo.training.schedule import rates

pytestmark = pytest.mark.slow
ADAPTER = "adapter_model.safetensors"
A_BYTE = "a byte of the weights"


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 3, "max_length": 128,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 1,
        "save_total_limit": 9, "lr_scheduler_type": "constant", **more,
    }  # fmt: skip


def words(chosen: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tiny_base: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps at a constant learning rate, each of them saved."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(**options(tiny_base, dataset_dir, run))
    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def cut(finished: Path, tmp_path: Path) -> Path:
    """The run as a kill after its second step left it."""
    return killed_copy(finished, tmp_path / "run", after=2)


def test_a_run_that_is_extended_is_the_longer_run(
    copied: Path, tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    chosen = options(tiny_base, dataset_dir, copied, max_steps=5)
    with pytest.raises(ResumeMismatch, match="max_steps") as caught:
        train(**chosen, resume=True)
    assert "--extend" in (caught.value.hint or "")
    found = train(**chosen, extend=True)
    whole = train(**options(tiny_base, dataset_dir, tmp_path / "whole", max_steps=5))
    assert (copied / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    assert [line["step"] for line in metrics(copied) if "loss" in line] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in metrics(copied) if "train_runtime" in line] == [5]
    assert found.metrics["train_loss"] == metrics(copied)[-1]["train_loss"]
    assert found.metrics["train_loss"] == pytest.approx(whole.metrics["train_loss"], rel=1e-5)
    assert (found.status, found.steps, found.planned_steps) == ("complete", 5, 5)
    assert found.changes == [Change(step=3, values={"max_steps": (3, 5), "planned_steps": (3, 5)})]
    first, second = train_command(found).replace(" \\\n ", "").splitlines()
    assert "--max-steps 3" in first
    assert second.endswith("--save-total-limit 9 --resume --extend")
    assert "--max-steps 5" in second
    assert train(**chosen, extend=True) == found  # the same command again finds nothing left to do


def kept_by(checkpoint: Path, kept: dict[str, Any] | None) -> None:
    """Put these into a checkpoint as what the run took until there, or nothing, as earlier versions did."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    assert set(state["stateful_callbacks"].pop("Spent")["attributes"]) == {"seconds", "tokens", "peak_bytes"}
    if kept is not None:
        state["stateful_callbacks"]["Spent"] = {"args": {}, "attributes": kept}
    path.write_text(json.dumps(state))
    mark_complete(checkpoint, 2)


def test_a_resumed_run_counts_the_tokens_of_all_its_starts(
    cut: Path, finished: Path, tiny_base: Path, dataset_dir: Path
) -> None:
    found = train(**options(tiny_base, dataset_dir, cut), resume=True)
    counted = [[line["num_tokens"] for line in metrics(run) if "num_tokens" in line] for run in (cut, finished)]
    assert counted[0] == counted[1]
    assert found.metrics["num_tokens"] == counted[1][-1]


def test_a_resumed_run_took_the_time_of_all_its_starts(cut: Path, tiny_base: Path, dataset_dir: Path) -> None:
    kept_by(cut / "checkpoint-2", {"seconds": 5_000.0, "tokens": 10**9, "peak_bytes": 2**50})
    found = train(**options(tiny_base, dataset_dir, cut), resume=True)
    assert found.train_seconds is not None and found.tokens_per_second is not None
    assert 5_000 < found.train_seconds < 6_000
    assert found.tokens_per_second == pytest.approx(found.metrics["num_tokens"] / found.train_seconds, rel=1e-3)
    assert found.peak_memory_bytes == 2**50
    assert found.metrics["train_runtime"] > 5_000
    assert metrics(cut)[-1]["seconds"] > 5_000


def test_time_and_tokens_that_no_checkpoint_kept_are_left_out(cut: Path, tiny_base: Path, dataset_dir: Path) -> None:
    kept_by(cut / "checkpoint-2", None)
    found = train(**options(tiny_base, dataset_dir, cut), resume=True)
    assert (found.train_seconds, found.tokens_per_second, found.peak_memory_bytes) == (None, None, None)
    assert not {"num_tokens", "train_runtime"} & found.metrics.keys()
    assert found.status == "complete"


def test_a_decaying_schedule_is_recomputed_when_a_run_is_extended(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    chosen = options(tiny_base, dataset_dir, tmp_path / "run", lr_scheduler_type="linear", warmup_ratio=0.4)
    train(**chosen)
    train(**(chosen | {"max_steps": 6}), extend=True)
    config = TrainConfig.build(chosen)
    before = rates(config, steps=3, warmup_steps=1, at=[1, 2, 3]) or []
    after = rates(config, steps=6, warmup_steps=1, at=[4, 5, 6]) or []
    logged = [line["learning_rate"] for line in metrics(tmp_path / "run") if "learning_rate" in line]
    assert logged == pytest.approx([*before, *after])
    assert after[0] > 0
    saved = [load_file(tmp_path / "run" / f"checkpoint-{step}" / ADAPTER) for step in (3, 4)]
    assert any((one != other).any() for one, other in zip(saved[0].values(), saved[1].values(), strict=True))


def test_options_of_saving_logging_and_memory_may_change(cut: Path, tiny_base: Path, dataset_dir: Path) -> None:
    (cut / "checkpoint-9").mkdir()  # cut short by a kill
    changed = {
        "max_steps": 3, "save_steps": 2, "eval_steps": 3, "logging_steps": 3, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2, "per_device_eval_batch_size": 8, "tokens_per_batch": None,
    }  # fmt: skip
    found = train(**options(tiny_base, dataset_dir, cut, **changed), resume=True)
    assert [line["step"] for line in metrics(cut) if "loss" in line] == [1, 2, 3]
    assert [path.name for path in sorted(cut.glob("checkpoint-*"))] == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    (change,) = found.changes
    assert change.step == 2
    assert change.values == {
        name: (before, changed[name])
        for name, before in {
            "save_steps": 1, "eval_steps": 50, "logging_steps": 1, "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1, "per_device_eval_batch_size": 4,
        }.items()
    }  # fmt: skip
    assert found.config["save_steps"] == 2


def test_new_intervals_apply_from_the_checkpoint_on(cut: Path, tiny_base: Path, dataset_dir: Path) -> None:
    changed = {"max_steps": 6, "save_steps": 4, "eval_steps": 4, "logging_steps": 2}
    train(**options(tiny_base, dataset_dir, cut, **changed), extend=True)
    lines = metrics(cut)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 4, 6]
    assert [line["step"] for line in lines if "eval_loss" in line] == [4, 6]
    assert sorted(path.name for path in cut.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in (1, 2, 4, 6)]


def test_a_run_killed_after_its_last_step_is_not_trained_further(
    copied: Path, finished: Path, tiny_base: Path, dataset_dir: Path
) -> None:
    manifest = RunManifest.read(copied / "run.json")
    manifest.model_copy(update={"status": "running"}).write(copied / "run.json")
    (copied / ADAPTER).unlink()
    found = train(**options(tiny_base, dataset_dir, copied), resume=True)
    assert (found.status, found.steps, found.changes) == ("complete", 3, [])
    assert (copied / ADAPTER).read_bytes() == (finished / ADAPTER).read_bytes()
    assert [line["step"] for line in metrics(copied) if "loss" in line] == [1, 2, 3]


def stop_at(step: int, what: BaseException, patch: pytest.MonkeyPatch, where: str = "training_step") -> None:
    from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

    plain = getattr(SharedPrefixDPOTrainer, where)

    def stopping(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            raise what
        return plain(self, *args, **kwargs)

    patch.setattr(SharedPrefixDPOTrainer, where, stopping)


OUT = torch.OutOfMemoryError("out")


@pytest.mark.parametrize(
    ("what", "where", "words_of_hint"),
    [
        (OUT, "training_step", "--per-device-train-batch-size 1 --gradient-accumulation-steps 2 --resume"),
        (OUT, "prediction_step", "--per-device-eval-batch-size 2 --resume"),
        (OUT, "scoring", "--per-device-eval-batch-size 2 "),
        (KeyboardInterrupt(), "training_step", "hubdpo train "),
    ],
    ids=["memory", "memory in an evaluation", "memory in scoring", "Ctrl-C"],
)
def test_the_hint_of_a_stopped_run_resumes_it(
    tiny_base: Path,
    dataset_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: BaseException,
    where: str,
    words_of_hint: str,
) -> None:
    def no_room(*args: Any, **kwargs: Any) -> Any:
        raise what

    chosen = options(tiny_base, dataset_dir, tmp_path / "run", eval_steps=2)
    with monkeypatch.context() as patch:
        if where == "scoring":
            patch.setattr(stage, "score_encoded", no_room)
        else:
            stop_at(2, what, patch, where)
        with pytest.raises((TrainingError, Stopped)) as caught:
            train(**chosen)
    hint = shlex.split(str(caught.value.hint))
    assert words_of_hint in " ".join(hint)
    changed = {word.removeprefix("--").replace("-", "_") for word in hint}
    kept = {name: value for name, value in chosen.items() if name not in changed}
    command = hint[1:] if hint[0] == "hubdpo" else ["train", *words(kept), *hint]
    app(args=command, standalone_mode=False)
    assert RunManifest.read(tmp_path / "run" / "run.json").status == "complete"
    assert [line["step"] for line in metrics(tmp_path / "run") if "loss" in line] == [1, 2, 3]


def test_ctrl_c_while_the_adapter_is_scored_says_how_to_go_on(
    cut: Path, tiny_base: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hubdpo.training.train._score", interrupted)
    with pytest.raises(Stopped) as caught:
        train(**options(tiny_base, dataset_dir, cut), resume=True)
    assert str(caught.value.hint).endswith("--resume")


def test_a_run_stopped_before_its_first_checkpoint_starts_again(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(tiny_base, dataset_dir, tmp_path / "run", save_steps=50)
    with monkeypatch.context() as patch:
        stop_at(1, KeyboardInterrupt(), patch)
        with pytest.raises(Stopped) as caught:
            train(**chosen)
    assert "nothing was saved yet" in caught.value.hint
    mended = train(**(chosen | {"learning_rate": 1e-4}))
    assert (mended.status, mended.changes) == ("complete", [])
    assert [line["step"] for line in metrics(tmp_path / "run") if "loss" in line] == [1, 2, 3]


@pytest.mark.parametrize("pairs", range(1, 13))
@pytest.mark.parametrize("accumulated", [1, 3, 4])
def test_the_out_of_memory_hint_keeps_the_pairs_per_step(pairs: int, accumulated: int) -> None:
    base = {"model_name_or_path": "x/y", "dataset": "x", "output_dir": "r"}
    config = TrainConfig.build(
        {**base, "per_device_train_batch_size": pairs, "gradient_accumulation_steps": accumulated}
    )
    hint = out_of_memory(config).hint or ""
    if pairs == 1:
        assert "--max-length" in hint
        return
    names, values = shlex.split(hint)[::2], shlex.split(hint)[1::2]
    mended = TrainConfig.build(
        {**base, **{name.removeprefix("--"): int(value) for name, value in zip(names, values, strict=True)}}
    )
    assert mended.pairs_per_process == config.pairs_per_process
    assert mended.per_device_train_batch_size <= pairs / 2


OTHER = {
    "loss_type": ["ipo"], "loss_weights": [2.0], "max_prompt_length": 100, "lora_target_modules": ["q_proj"],
    "lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"num_cycles": 1}, "reference": "cached", "device": "cpu",
    "tokens_per_batch": 4096, "checkpoint_layers": 1, "max_steps": 9,
    "chat_template_kwargs": {"enable_thinking": False}, "margin_columns": ["a"], "weight_column": "a",
    "f_divergence_type": "js_divergence", "optim": "adamw_torch", "warmup_steps": 3, "layers_to_transform": [1],
    "early_stopping_patience": 2, "chat_template": "chatml", "dtype": "float32", "reference_adapter": "none",
}  # fmt: skip


def other(config: TrainConfig, name: str) -> TrainConfig:
    """The config with another value of one option; a split of the same pairs for those that split them."""
    value = getattr(config, name)
    changed = OTHER.get(name, not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 0.37)
    if name == "per_device_train_batch_size":
        return config.model_copy(update={name: 2, "gradient_accumulation_steps": 8})
    if name == "gradient_accumulation_steps":
        return config.model_copy(update={name: 1, "per_device_train_batch_size": 16})
    return config.model_copy(update={name: changed})


def manifest_of(config: TrainConfig, **more: Any) -> RunManifest:
    return RunManifest(
        hubdpo_version="0", status="running", config=published_config(config), dataset=DATA, base=BaseRef(name="b"),
        versions={}, device="cpu", seed=1, **more,
    )  # fmt: skip


DATA = DatasetRef(name="d", fingerprint="f", train_pairs=8, test_pairs=0)
BASE_NOW = BaseRef(name="b", sha256="1" * 64)
CONFIG = TrainConfig.build({"model_name_or_path": "b", "dataset": "d", "output_dir": "r"})


@pytest.mark.parametrize("name", TrainConfig.names(Role.WEIGHTS, Role.MANNER))
def test_an_option_may_change_unless_the_weights_depend_on_it(name: str) -> None:
    now = other(CONFIG, name)
    assert published_config(now)[name] != published_config(CONFIG)[name]
    if name in TrainConfig.names(Role.WEIGHTS):
        with pytest.raises(ResumeMismatch, match=name):
            check_same_experiment(manifest_of(CONFIG), now, BaseRef(name="b"), DATA)
    else:
        check_same_experiment(manifest_of(CONFIG), now, BaseRef(name="b"), DATA)
        earlier = EarlierRun(manifest_of(CONFIG, planned_steps=8), Checkpoint(Path(), 4))
        assert name in note_changes(earlier, manifest_of(now)).changes[0].values


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"loss_type": ["aot"]}, "per_device_train_batch_size"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "eval_steps"),
        ({"lr_scheduler_type": "greedy"}, "max_eval_pairs"),
        ({}, "pairs per step"),
    ],
)
def test_options_that_weights_depend_on_follow_the_other_options(options: dict[str, Any], name: str) -> None:
    config = CONFIG.model_copy(update=options)
    now = config.model_copy(update={"gradient_accumulation_steps": 5}) if " " in name else other(config, name)
    with pytest.raises(ResumeMismatch, match=name):
        check_same_experiment(manifest_of(config), now, BaseRef(name="b"), DATA)


@pytest.mark.parametrize("what", ["base", "dataset fingerprint"])
def test_another_base_or_other_data_are_another_run(what: str) -> None:
    base = BaseRef(name="another" if what == "base" else "b")
    data = DATA if what == "base" else DATA.model_copy(update={"fingerprint": "g"})
    with pytest.raises(ResumeMismatch, match=what):
        check_same_experiment(manifest_of(CONFIG), CONFIG, base, data)


def test_a_folder_of_the_same_name_with_other_files_is_another_base() -> None:
    earlier = manifest_of(CONFIG).model_copy(update={"base": BaseRef(name="b", sha256="1" * 64)})
    with pytest.raises(ResumeMismatch, match="base files"):
        check_same_experiment(earlier, CONFIG, BaseRef(name="b", sha256="2" * 64), DATA)


def test_a_base_that_was_moved_and_one_without_a_hash_are_resumed() -> None:
    moved = BaseRef(name="c", sha256="1" * 64)
    check_same_experiment(manifest_of(CONFIG).model_copy(update={"base": moved}), CONFIG, BASE_NOW, DATA)
    check_same_experiment(manifest_of(CONFIG), CONFIG, BASE_NOW, DATA)  # as hubdpo 0.4 recorded it


def test_options_newer_than_the_run_count_as_their_default() -> None:
    old = manifest_of(CONFIG)
    del old.config["lr_scheduler_kwargs"], old.config["reference"]
    check_same_experiment(old, CONFIG, BaseRef(name="b"), DATA)
    with pytest.raises(ResumeMismatch, match="lr_scheduler_kwargs"):
        check_same_experiment(old, other(CONFIG, "lr_scheduler_kwargs"), BaseRef(name="b"), DATA)


def test_a_run_ends_where_its_own_schedule_ends(tmp_path: Path) -> None:
    """hubdpo 0.2 counted epochs otherwise and did not note the steps; the checkpoint has them."""
    (tmp_path / "trainer_state.json").write_text(json.dumps({"max_steps": 5}))
    config = CONFIG.model_copy(update={"num_train_epochs": 3, "per_device_train_batch_size": 1})
    old = EarlierRun(manifest_of(config), Checkpoint(tmp_path, 2))
    assert steps_to_take(config, 10, None) == 9
    assert steps_to_take(config, 10, old) == 5
    assert steps_to_take(config.model_copy(update={"extend": True}), 10, old) == 9
    with pytest.raises(ConfigError, match="is saved at step 2 of 5 steps, and these options ask for 4") as caught:
        steps_to_take(config.model_copy(update={"extend": True, "max_steps": 4}), 10, old)
    assert (caught.value.hint or "").endswith(
        "--output-dir r --num-train-epochs 3.0 --per-device-train-batch-size 1 --resume"
    )
    with pytest.raises(ConfigError, match="no checkpoint is left"):
        steps_to_take(
            config.model_copy(update={"extend": True}), 10, EarlierRun(manifest_of(config, planned_steps=5), None)
        )


def test_the_warm_up_is_a_share_of_the_steps_of_the_first_start() -> None:
    changes = [Change(step=3, values={"planned_steps": (3, 5)}), Change(step=5, values={"planned_steps": (5, 8)})]
    run = EarlierRun(manifest_of(CONFIG, planned_steps=8, changes=changes), None)
    assert (run.planned, run.first_planned) == (8, 3)


def run_in(folder: Path, status: str = "running", saved: int | None = None) -> TrainConfig:
    config = CONFIG.model_copy(update={"output_dir": folder})
    folder.mkdir(parents=True)
    manifest_of(config).model_copy(update={"status": status}).write(folder / "run.json")
    if saved is not None:
        (folder / f"checkpoint-{saved}").mkdir()
        mark_complete(folder / f"checkpoint-{saved}", saved)
    return config


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_again_silently(tmp_path: Path) -> None:
    config = run_in(tmp_path / "run", saved=3)
    (config.output_dir / "checkpoint-3" / MARKER).write_text(canonical_json({"files": {"optimizer.pt": {"size": 9}}}))
    with pytest.raises(ConfigError, match="an unfinished run whose checkpoints are damaged") as caught:
        check_output_folder(config)
    assert "--resume" in (caught.value.hint or "")


def test_a_folder_is_free_until_a_run_has_saved_something(tmp_path: Path) -> None:
    config = run_in(tmp_path / "nothing yet")
    (config.output_dir / "checkpoint-50").mkdir()  # cut short
    assert check_output_folder(config) is None
    assert check_output_folder(config.model_copy(update={"resume": True})) is None
    saved = run_in(tmp_path / "saved", saved=50)
    with pytest.raises(ConfigError, match="unfinished run, saved at step 50") as caught:
        check_output_folder(saved)
    assert "--resume" in (caught.value.hint or "")
    assert check_output_folder(saved.model_copy(update={"resume": True})) is not None
    with pytest.raises(ConfigError, match="a finished run"):
        check_output_folder(run_in(tmp_path / "done", status="complete"))


@pytest.mark.parametrize(
    ("status", "options", "hint"),
    [
        ("running", {}, "add `--resume`, or give another `--output-dir`"),
        ("running", {"max_steps": 900}, "add `--extend`, or give another `--output-dir`"),
        ("running", {"max_steps": 7}, "give another `--output-dir`"),
        ("running", {"beta": 0.7}, "give another `--output-dir`"),
        ("running", {"beta": 0.7, "max_steps": 900}, "give another `--output-dir`"),
        ("running", {"save_steps": 7}, "add `--resume`, or give another `--output-dir`"),
        ("complete", {}, "add `--extend --max-steps 2`, or give another `--output-dir`"),
        ("complete", {"max_steps": 7}, "add `--extend`, or give another `--output-dir`"),
        ("complete", {"seed": 7}, "give another `--output-dir`"),
    ],
)
def test_the_way_on_with_a_run_is_one_that_it_takes(
    status: str, options: dict[str, Any], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_folder, "damage_of_results", lambda folder, run: None)
    config = run_in(tmp_path / "run", status=status, saved=50)
    if status == "running":
        file = config.output_dir / "run.json"
        RunManifest.read(file).model_copy(update={"planned_steps": 60}).write(file)
    with pytest.raises(ConfigError) as caught:
        check_output_folder(config.model_copy(update=options))
    assert caught.value.hint == hint
    for name in options:
        assert ("of another configuration" in caught.value.message) is (hint[0] == "g"), name


@pytest.mark.parametrize(("steps", "hint"), [(300, "add `--extend`"), (3, "hubdpo train")])
def test_steps_of_a_run_that_goes_on_are_its_own_unless_there_are_more(steps: int, hint: str) -> None:
    earlier = manifest_of(CONFIG).model_copy(update={"planned_steps": 100})
    with pytest.raises(ResumeMismatch) as caught:
        check_same_experiment(earlier, CONFIG.model_copy(update={"max_steps": steps}), BaseRef(name="b"), DATA)
    assert str(caught.value.hint).startswith(hint)


def test_other_data_lead_to_another_folder_first() -> None:
    with pytest.raises(ResumeMismatch) as caught:
        check_same_experiment(manifest_of(CONFIG), CONFIG, BaseRef(name="c"), DATA)
    first, second = str(caught.value.hint).split(", or ")
    assert first == "give another `--output-dir`; leave `--resume` out"
    assert second.startswith("hubdpo train ") and second.endswith("--resume")


@pytest.mark.parametrize("option", ["model_name_or_path", "dataset", "adapter"])
def test_a_folder_that_was_changed_is_to_be_put_back(tmp_path: Path, option: str) -> None:
    """The command of the run names the folder as well, so it would be refused again."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    config = CONFIG.model_copy(update={"output_dir": tmp_path, option: str(here)})
    earlier = manifest_of(config).model_copy(update={"base": BaseRef(name="here", sha256="2" * 64)})
    data, start = DATA, AdapterRef(name="here", sha256="1" * 64)
    base = BASE_NOW if option == "model_name_or_path" else earlier.base
    if option == "dataset":
        data = DATA.model_copy(update={"fingerprint": "g"})
    for place, way_back in ((here, f"put `{here}` back as it was"), (elsewhere, "hubdpo train ")):
        write_places(tmp_path, {option: str(place)})
        with pytest.raises(ResumeMismatch) as caught:
            check_same_experiment(earlier, config, base, data, start if option == "adapter" else None)
        assert str(caught.value.hint).partition(", or ")[2].startswith(way_back)
        elsewhere.mkdir(exist_ok=True)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def damage(run: Path, name: str) -> None:
    if name == A_BYTE:
        flip_a_byte(run / ADAPTER)
    elif name == ADAPTER:
        (run / name).write_bytes((run / name).read_bytes()[:-9])
    elif name in ("metrics.jsonl", "probes.json"):
        (run / name).write_text((run / name).read_text() + "cut sho")
    else:
        (run / name).unlink()


@pytest.mark.parametrize("name", [
    A_BYTE, ADAPTER, "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    "probes.json", "metrics.jsonl",
])  # fmt: skip
def test_damaged_results_of_a_finished_run_are_written_again(
    copied: Path, finished: Path, tiny_base: Path, dataset_dir: Path, name: str
) -> None:
    damage(copied, name)
    name = ADAPTER if name == A_BYTE else name
    chosen = options(tiny_base, dataset_dir, copied)
    with pytest.raises(ConfigError, match=f"a finished run, but `{name}`") as caught:
        train(**chosen)
    assert "resume" in (caught.value.hint or "")
    assert train(**chosen, resume=True).status == "complete"
    if name == "metrics.jsonl":
        assert [line["step"] for line in metrics(copied)] == [line["step"] for line in metrics(finished)]
    else:
        assert (copied / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize(
    "use",
    [
        evaluate, load_adapter, lambda run: merge(adapter=str(run), output_dir=run / "merged"),
        lambda run: push(folder=run, repo="alice/changed", version="1.0.0"),
    ],
    ids=["evaluate", "load", "merge", "push"],
)  # fmt: skip
@pytest.mark.parametrize("name", [ADAPTER, "chat_template.jinja", "tokenizer.json"])
def test_what_the_run_did_not_write_is_not_used(copied: Path, use: Callable[[Path], object], name: str) -> None:
    flip_a_byte(copied / name)
    with pytest.raises(ArtefactError, match=f"`{name}` in .* was changed") as caught:
        use(copied)
    assert "--resume" in (caught.value.hint or "")


def test_the_hint_for_a_changed_file_can_be_pasted(copied: Path, finished: Path) -> None:
    flip_a_byte(copied / ADAPTER)
    with pytest.raises(ArtefactError) as caught:
        evaluate(copied, max_answers=0)
    program, *arguments = shlex.split(caught.value.hint or "")
    app(args=arguments, standalone_mode=False)
    assert program == "hubdpo"
    assert (copied / ADAPTER).read_bytes() == (finished / ADAPTER).read_bytes()


def test_a_run_that_recorded_no_hashes_is_still_complete(copied: Path) -> None:
    manifest = RunManifest.read(copied / "run.json").model_copy(update={"files": {}})  # of hubdpo 0.3
    manifest.write(copied / "run.json")
    config = CONFIG.model_copy(update={"output_dir": copied, "resume": True})
    assert check_output_folder(config) == manifest


def test_a_dry_run_of_a_finished_run_says_one_thing(copied: Path, tiny_base: Path, dataset_dir: Path) -> None:
    done = CliRunner().invoke(app, ["train", *words(options(tiny_base, dataset_dir, copied)), "--resume", "--dry-run"])
    assert "nothing is left to train" in done.stderr
    assert "ready" not in done.output
    assert "--dry-run" not in done.output


def test_damaged_results_without_a_checkpoint_need_another_folder(copied: Path) -> None:
    damage(copied, ADAPTER)
    for checkpoint in copied.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(ArtefactError, match=f"`{ADAPTER}` in .* was changed .*, and no checkpoint is left"):
        check_output_folder(CONFIG.model_copy(update={"output_dir": copied, "resume": True}))


def test_only_more_steps_are_an_extension() -> None:
    for steps, word in ((12, "hubdpo train"), (50, "--extend")):
        config = CONFIG.model_copy(update={"max_steps": steps})
        with pytest.raises(ResumeMismatch, match="max_steps") as caught:
            check_same_experiment(manifest_of(CONFIG, planned_steps=40), config, BaseRef(name="b"), DATA)
        assert word in (caught.value.hint or "")


def test_the_hint_of_a_refused_extension_extends() -> None:
    config = CONFIG.model_copy(update={"max_steps": 50, "beta": 0.7, "extend": True})
    with pytest.raises(ResumeMismatch, match="beta") as caught:
        check_same_experiment(manifest_of(CONFIG, planned_steps=40), config, BaseRef(name="b"), DATA)
    hint = str(caught.value.hint)
    assert hint.endswith(" --extend")
    assert "--max-steps 50" in hint
    assert "--beta 0.7" not in hint


def test_a_dry_run_names_the_checkpoint_that_the_run_goes_on_from(
    copied: Path, tiny_base: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = RunManifest.read(copied / "run.json")
    manifest.model_copy(update={"status": "running"}).write(copied / "run.json")
    flip_a_byte(copied / "checkpoint-3" / ADAPTER)
    train(**options(tiny_base, dataset_dir, copied), resume=True, dry_run=True)
    said = capsys.readouterr().err
    assert "checkpoint-3` is damaged" in said
    assert "resumes   from checkpoint-2, 1 step left" in said
    assert (copied / "checkpoint-3" / MARKER).exists()


def test_a_dry_run_of_an_extension_tells_of_it_and_writes_nothing(
    copied: Path, tiny_base: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    train(**options(tiny_base, dataset_dir, copied, max_steps=5), extend=True, dry_run=True)
    assert "extend" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


@pytest.mark.parametrize(("revision", "kept"), [(None, "c" * 40), ("main", "main")])
def test_a_resumed_run_keeps_its_commits_unless_others_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None, kept: str
) -> None:
    config = run_in(tmp_path / "run", saved=3)
    manifest = RunManifest.read(config.output_dir / "run.json")
    base = manifest.base.model_copy(update={"repo_id": "me/base", "revision": "c" * 40})
    data = manifest.dataset.model_copy(update={"repo_id": "me/data", "revision": "d" * 40})
    manifest.model_copy(update={"base": base, "dataset": data}).write(config.output_dir / "run.json")
    names = {"model_name_or_path": "me/base", "model_revision": revision, "dataset": "me/data", "resume": True}
    asked: list[str] = []
    monkeypatch.setattr(start, "look_at_dataset", lambda ref: asked.append(ref) or (None, ref))
    monkeypatch.setattr(start, "look_at_base", lambda config, fits: config)
    monkeypatch.setattr(start, "warn_of_other_tokenizer", lambda *_: None)
    assert start.check_start(config.model_copy(update=names)).model_revision == kept
    assert asked == ["me/data@" + "d" * 40]


def test_there_must_be_a_run_to_extend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run in"):
        check_output_folder(CONFIG.model_copy(update={"output_dir": tmp_path / "run", "extend": True}))


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        with pytest.raises(ConfigError, match="is a file"):
            check_output_folder(CONFIG.model_copy(update={"output_dir": tmp_path / place}))


def fails(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    "where", ["common.load_base", "train.preflight", "run.resume.fill_auto", "train.use_cached_reference"]
)
def test_a_start_that_fails_leaves_nothing(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(f"hubdpo.training.{where}", fails)
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="no"):
        train(**options(tiny_base, dataset_dir, tmp_path / "a" / "run", tokens_per_batch="auto", reference="cached"))
    assert not (tmp_path / "a").exists()
