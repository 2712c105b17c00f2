"""What push, verify, diff and inspect say in cases where nothing is wrong, or the user meant something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

from hubdpo import diff, load_adapter, merge, push, verify
from hubdpo.artefacts.folders.kinds import read_run
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ArtefactError, ConfigError, HubError
from hubdpo.loopback.faults import Fault, Faults
from hubdpo.release.inspect import inspect
from tests.release.made import forget_files, record_files

if TYPE_CHECKING:
    from typer.testing import Result


def set_base(run: Path, name: str) -> None:
    manifest = RunManifest.read(run / "run.json")
    base = manifest.base.model_copy(update={"repo_id": name, "name": name})
    manifest.model_copy(update={"base": base}).write(run / "run.json")


@pytest.mark.parametrize("options", [{}, {"dry_run": True}], ids=["push", "dry run"])
def test_a_base_that_this_hub_lacks_is_told_before_anything_is_sent(
    run: Path, repo_id: str, options: dict[str, bool]
) -> None:
    set_base(run, "somebody/elsewhere")
    with pytest.raises(HubError, match=r"`somebody/elsewhere` is not on http.*; nothing was sent") as caught:
        push(folder=run, repo=repo_id, version="1.0.0", **options)
    assert "push the base to this Hub too" in str(caught.value.hint)
    assert not HfApi().repo_exists(repo_id)


def test_a_base_that_this_hub_lacks_is_a_warning_where_only_hashes_count(
    run: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_base(run, "somebody/elsewhere")
    assert push(folder=run, repo=repo_id, version="1.0.0", check="hashes").checked == "hashes"
    assert capsys.readouterr().err.count("the base cannot be downloaded") == 1


def test_the_branch_that_a_failure_leaves_is_named(
    data: Path, repo_id: str, faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.add(Fault("status", "/tag/", status=403))
    with pytest.raises(HubError):
        push(folder=data, repo=repo_id, version="1.0.0")
    (branch,) = (b.name for b in HfApi().list_repo_refs(repo_id, repo_type="dataset").branches if b.name != "main")
    assert f"hf repos branch delete {repo_id} {branch} --type dataset" in capsys.readouterr().err.replace("\n", " ")


def test_a_folder_is_not_verified_and_the_next_step_is_named(data: Path, repo_id: str) -> None:
    for hint in ("hubdpo push", f"datasets/{repo_id}@v1.0.0"):
        with pytest.raises(ConfigError, match="is a folder") as caught:
            verify(data)
        assert hint in str(caught.value.hint)
        push(folder=data, repo=repo_id, version="1.0.0")


def test_a_push_with_nothing_to_do_says_so(data: Path, repo_id: str, run_cli: Callable[..., Result]) -> None:
    command = ("push", str(data), repo_id, "--version", "patch")
    dry = run_cli(*command, "--dry-run")
    assert "0.0.1, the first release" in dry.stderr and "create the dataset repo" in dry.stderr
    assert "published and verified" in run_cli(*command).stdout
    again = run_cli(*command)
    assert "already published, verified then: " in again.stdout
    dry = run_cli(*command, "--dry-run")
    assert "1. v0.0.1 holds these files already: nothing to do" in dry.stderr
    assert "already published: " in dry.stdout


def test_a_dry_run_says_what_is_left_of_a_release(data: Path, repo_id: str, run_cli: Callable[..., Result]) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    HfApi().delete_file("hubdpo.json", repo_id, repo_type="dataset")
    HfApi().delete_file("prepare.json", repo_id, repo_type="dataset")
    done = run_cli("push", str(data), repo_id, "--version", "1.0.0", "--dry-run")
    assert "2. bring main to these files" in done.stderr


def test_a_merged_model_is_named_as_what_it_is(
    run: Path, tmp_path: Path, repo_id: str, run_cli: Callable[..., Result]
) -> None:
    merge(adapter=str(run), output_dir=tmp_path / "merged", dtype="float32")
    with pytest.raises(ArtefactError, match="is a merged model, which needs no adapter"):
        load_adapter(tmp_path / "merged")
    assert "merged: a merged model, " in run_cli("inspect", str(tmp_path / "merged")).stdout
    done = run_cli("push", str(tmp_path / "merged"), repo_id, "--version", "1.0.0", "--dry-run")
    assert "create the model repo" in done.stderr


def test_a_base_is_not_merged_and_the_hint_says_what_is(tiny_base_repo: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is not an adapter") as caught:
        merge(adapter=tiny_base_repo, output_dir=tmp_path / "merged")
    assert "give a release of an adapter" in str(caught.value.hint)


def test_equal_metrics_are_one_line(run: Path, run_cli: Callable[..., Result]) -> None:
    done = run_cli("diff", str(run), str(run))
    assert "the metrics are identical" in done.stderr and "+0" not in done.stdout + done.stderr


def test_a_main_without_its_list_is_told_in_our_words(
    data: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **options: object) -> None:
        raise AssertionError(f"the client would warn in its own words: no file matches {options}")

    push(folder=data, repo=repo_id, version="1.0.0")
    HfApi().delete_file("hubdpo.json", repo_id, repo_type="dataset")
    monkeypatch.setattr("hubdpo.hub.repo.download", download)
    with pytest.raises(ArtefactError, match="is no release of hubdpo"):
        diff(repo_id, f"{repo_id}@v1.0.0")


def test_a_dry_run_leads_to_its_own_command_with_all_its_options(
    data: Path, repo_id: str, run_cli: Callable[..., Result]
) -> None:
    done = run_cli("push", str(data), repo_id, "--version", "1.0.0", "--private", "--dry-run")
    assert "hint: the same command without `--dry-run`" in done.stderr and "hubdpo push" not in done.stderr


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("break_it", "message"), [(Path.unlink, "is missing from"), (lambda path: path.write_bytes(b"x"), "was changed")]
)
def test_a_dataset_with_a_broken_file_is_told_as_one(
    data: Path, repo_id: str, break_it: Callable[[Path], object], message: str, dry_run: bool
) -> None:
    break_it(next((data / "data").glob("test*")))
    with pytest.raises(ArtefactError, match=f"`data/test.*{message}"):
        push(folder=data, repo=repo_id, version="1.0.0", dry_run=dry_run)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "adapter_config.json",
        "adapter_model.safetensors",
    ],
)
def test_a_run_that_could_not_be_loaded_is_refused_before_anything_is_sent(run: Path, repo_id: str, name: str) -> None:
    (run / name).unlink()
    forget_files(run)
    with pytest.raises(ArtefactError, match=f"`{name}` is missing"):
        push(folder=run, repo=repo_id, version="1.0.0", dry_run=True)


@pytest.mark.parametrize("name", [
    "tokenizer.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json",
    "adapter_model.safetensors", "eval.json", "probes.json", "metrics.jsonl", "chat_template.jinja",
])  # fmt: skip
def test_a_run_with_a_truncated_file_is_refused_before_anything_is_sent(run: Path, repo_id: str, name: str) -> None:
    (run / name).write_bytes((run / name).read_bytes()[:-40])
    forget_files(run)
    with pytest.raises(ArtefactError, match=f"`{name}`") as caught:
        push(folder=run, repo=repo_id, version="1.0.0", dry_run=True)
    assert (caught.value.hint or "").endswith("--resume")


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "generation_config.json", "metrics.jsonl", "eval.json", "plots/curves.png"]
)
def test_a_run_with_a_byte_changed_is_refused_before_anything_is_sent(run: Path, repo_id: str, name: str) -> None:
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    with pytest.raises(ArtefactError, match=f"`{name}` in .* was changed after it was written"):
        push(folder=run, repo=repo_id, version="1.0.0", dry_run=True)


def test_the_hashes_in_run_json_are_those_of_the_released_files(run: Path, repo_id: str) -> None:
    set_base(run, "somebody/elsewhere")
    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    assert read_run(Path(HfApi().snapshot_download(repo_id))).base.name == "somebody/elsewhere"


def test_measurements_that_are_gone_or_changed_are_made_again_as_the_hint_says(
    run: Path, repo_id: str, run_cli: Callable[..., Result]
) -> None:
    (run / "probes.json").write_text("{}")
    (run / "eval.json").unlink()
    (run / "plots" / "curves.png").unlink()
    with pytest.raises(ArtefactError, match=r"`eval.json` is missing") as caught:
        push(folder=run, repo=repo_id, version="1.0.0")
    assert caught.value.hint == f"hubdpo evaluate {run}"
    assert run_cli("evaluate", str(run), "--max-pairs", "5").exit_code == 0  # other bytes than before
    assert push(folder=run, repo=repo_id, version="1.0.0").checked == "load"


def test_a_config_that_its_weights_do_not_fit_is_refused_before_anything_is_sent(run: Path, repo_id: str) -> None:
    config = json.loads((run / "adapter_config.json").read_text())
    (run / "adapter_config.json").write_text(json.dumps(config | {"r": 4096}))
    record_files(run)
    with pytest.raises(ArtefactError, match="`r` of adapter_config.json is 4096"):
        push(folder=run, repo=repo_id, version="1.0.0", dry_run=True)


def test_a_dry_run_says_what_the_run_did_not_measure(run: Path, repo_id: str, run_cli: Callable[..., Result]) -> None:
    for name in ("eval.json", "probes.json"):
        (run / name).unlink()
    forget_files(run)
    command = ("push", str(run), repo_id, "--version", "1.0.0")
    for done in (run_cli(*command, "--dry-run"), run_cli(*command)):
        told = done.stderr.replace("\n", " ")
        assert told.count("has no eval.json") == told.count("has no probes.json") == 1
        assert told.count(f"`hubdpo evaluate {run}` writes it") == 2
    assert "has no probes.json" in run_cli("verify", f"{repo_id}@v1.0.0").stderr


def test_a_broken_file_is_one_problem_and_has_its_folder(data: Path, tmp_path: Path, dataset_dir: Path) -> None:
    name = f"data/{next((data / 'data').glob('train*')).name}"
    (data / name).write_bytes(b"PAR1")
    assert [finding.field for finding in inspect(str(data)).findings] == [name]
    with pytest.raises(ArtefactError, match=f"`{data / name}` is not a Parquet file") as caught:
        diff(dataset_dir, data)
    assert "download" not in str(caught.value.hint)


def test_a_changed_file_has_the_difference_of_its_sizes(run: Path, run_dir: Path) -> None:
    with (run / "adapter_config.json").open("a") as stream:
        stream.write("\n\n")
    assert diff(run_dir, run).files["adapter_config.json"].difference == 2
