"""Verifying: a release loads as what was trained, or it is no release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from hubdpo import push, verify
from hubdpo.artefacts.manifests.evaluation import Probes
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import HubdpoError, VerificationFailed
from hubdpo.model.probes import PAIRS, ProbeResult, compare_probes, record_probes
from hubdpo.release.verify import loads
from hubdpo.release.verify.loads import check_dataset
from tests.release.made import forget_files, record_files, scale_adapter

if TYPE_CHECKING:
    from tests.conftest import Hub


@pytest.fixture
def own_base(tiny_base: Path, repo_id: str) -> str:
    """The base under a name of its own, so that a test may change it."""
    name = f"{repo_id}-base"
    HfApi().create_repo(name)
    HfApi().upload_folder(repo_id=name, folder_path=str(tiny_base))
    return name


def set_base(run: Path, name: str) -> None:
    manifest = RunManifest.read(run / "run.json")
    base = manifest.base.model_copy(update={"repo_id": name, "name": name, "revision": HfApi().model_info(name).sha})
    manifest.model_copy(update={"base": base}).write(run / "run.json")


def assert_nothing_was_released(repo_id: str) -> None:
    refs = HfApi().list_repo_refs(repo_id)
    assert not refs.tags
    assert HfApi().list_repo_files(repo_id) == [".gitattributes"]


def test_training_records_probes_of_our_own_texts(run: Path) -> None:
    recorded = Probes.read(run / "probes.json")
    assert {(p.prompt, p.answer) for p in recorded.probes} == {(q, a) for q, *answers in PAIRS for a in answers}
    assert all(len(p.log_probs) == len(p.answer_ids) > 1 and max(p.log_probs) < 0 for p in recorded.probes)
    assert recorded.environment["load_in_4bit"] == "True"


def test_a_release_gives_exactly_what_was_trained(run: Path, repo_id: str) -> None:
    assert push(folder=run, repo=repo_id, version="1.0.0").checked == "load"
    found = verify(f"{repo_id}@v1.0.0").probes
    assert found is not None and found.exact
    assert (found.answers, found.largest_difference) == (2 * len(PAIRS), 0.0)


@pytest.mark.parametrize("what", ["weights", "base", "precision", "chat template"])
def test_what_is_not_as_trained_gets_no_tag(run: Path, repo_id: str, own_base: str, tiny_base: Path, what: str) -> None:
    if what == "weights":
        scale_adapter(run, 1.01)
    elif what == "base":
        from hubdpo.demo.tiny_base import make_tiny_base

        other = make_tiny_base(run.parent / "other", seed=1)
        HfApi().upload_folder(repo_id=own_base, folder_path=str(other))
        set_base(run, own_base)
    elif what == "precision":
        manifest = RunManifest.read(run / "run.json")
        manifest.model_copy(update={"config": {**manifest.config, "load_in_4bit": False}}).write(run / "run.json")
    else:
        (run / "chat_template.jinja").write_text("{% for turn in messages %}{{ turn.content }}{% endfor %}")
        record_files(run)
    with pytest.raises(VerificationFailed) as caught:
        push(folder=run, repo=repo_id, version="1.0.0")
    assert caught.value.exit_code == 6
    assert_nothing_was_released(repo_id)


def test_hashes_alone_are_called_so(run: Path, repo_id: str, run_cli: Any) -> None:
    scale_adapter(run, 1.01)  # what the hashes cannot see
    command = ["push", str(run), repo_id, "--version", "1.0.0", "--check", "hashes"]
    for _ in range(2):  # published, then known from the receipt
        done = run_cli(*command)
        assert (done.exit_code, "hashes only, not loaded" in done.stdout) == (0, True)
    assert json.loads(run_cli(*command, "--json").stdout)["checked"] == "hashes"
    done = run_cli("verify", f"{repo_id}@v1.0.0", "--check", "hashes")
    assert (done.exit_code, "hashes only, not loaded" in done.stdout) == (0, True)
    assert run_cli("verify", f"{repo_id}@v1.0.0").exit_code == 6


def test_another_machine_may_differ_a_little(run: Path, repo_id: str) -> None:
    recorded = Probes.read(run / "probes.json")
    elsewhere = {**recorded.environment, "hardware": "another processor"}
    near = [
        probe.model_copy(update={"log_probs": [value + 1e-5 for value in probe.log_probs]}) for probe in recorded.probes
    ]
    recorded.model_copy(update={"environment": elsewhere, "probes": near}).write(run / "probes.json")
    record_files(run)
    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    found = verify(f"{repo_id}@v1.0.0").probes
    assert found is not None and not found.exact
    assert 0 < found.mean_difference < found.tolerance == 1e-3


def test_a_run_of_before_there_were_probes_is_published_with_a_warning(
    run: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "probes.json").unlink()
    forget_files(run)
    push(folder=run, repo=repo_id, version="1.0.0")
    assert "has no probes.json" in capsys.readouterr().err


def test_a_base_that_moved_is_reported_and_no_failure(run: Path, repo_id: str, own_base: str, run_cli: Any) -> None:
    set_base(run, own_base)
    pinned = HfApi().model_info(own_base).sha
    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    assert verify(f"{repo_id}@v1.0.0", check="hashes").base.moved is False  # type: ignore[union-attr]
    HfApi().upload_file(
        repo_id=own_base, path_in_repo="README.md", path_or_fileobj=b"---\nlicense: mit\n---\nanother base\n"
    )
    HfApi().upload_file(repo_id=own_base, path_in_repo="generation_config.json", path_or_fileobj=b"{}")
    done = run_cli("verify", f"{repo_id}@v1.0.0", "--check", "hashes", "--json")
    assert done.exit_code == 0
    assert "has moved on" in done.stderr and "is under mit now" in done.stderr
    base = json.loads(done.stdout)["base"]
    assert base == {
        "repo_id": own_base, "revision": pinned, "main": HfApi().model_info(own_base).sha, "moved": True,
        "license": "apache-2.0", "license_now": "mit",
    }  # fmt: skip


def test_a_base_that_is_gone_fails_and_hashes_do_not(run: Path, repo_id: str, own_base: str) -> None:
    set_base(run, own_base)
    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    HfApi().delete_repo(own_base)
    with pytest.raises(VerificationFailed, match=r"the base cannot be downloaded: .* is not on http") as caught:
        verify(f"{repo_id}@v1.0.0")
    assert "--check hashes" in (caught.value.hint or "")
    found = verify(f"{repo_id}@v1.0.0", check="hashes")
    assert found.base is not None and found.base.moved is None


@pytest.mark.parametrize(("problem", "hint"), [(MemoryError(), "--check hashes"), (ValueError("}"), "do not use")])
def test_hashes_alone_are_for_a_base_that_does_not_fit(
    run: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch, problem: Exception, hint: str
) -> None:
    def failing(*args: Any, **options: Any) -> Any:
        raise problem

    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    monkeypatch.setattr(loads, "load_on_base", failing)
    with pytest.raises(VerificationFailed, match="cannot be loaded on") as caught:
        verify(f"{repo_id}@v1.0.0")
    assert hint in (caught.value.hint or "")


def test_the_rows_of_a_dataset_are_counted(data: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    assert verify(f"{repo_id}@v1.0.0").splits == PrepareManifest.read(data / "prepare.json").splits


@pytest.mark.parametrize("liar", ["prepare.json", "README.md"])
def test_a_dataset_that_counts_otherwise_fails(data: Path, liar: str) -> None:
    rows = PrepareManifest.read(data / "prepare.json").splits["train"]
    key = '"train": ' if liar == "prepare.json" else "num_examples: "
    text = (data / liar).read_text()
    assert f"{key}{rows}" in text
    (data / liar).write_text(text.replace(f"{key}{rows}", f"{key}{rows + 1}"))
    with pytest.raises(VerificationFailed, match=liar):
        check_dataset(data)


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_columns_that_dpo_cannot_take_fail(data: Path, column: str) -> None:
    path = next(data.glob("data/train*"))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(column).append_column(column, pa.array([1] * len(table))), path)
    with pytest.raises(VerificationFailed, match=rf"DPO cannot train on `data/{path.name}`: `{column}` holds int64"):
        check_dataset(data)


def test_a_card_whose_splits_are_odd_fails_in_one_line(data: Path) -> None:
    card = (data / "README.md").read_text()
    (data / "README.md").write_text(card.replace("- name: train", "- nom: train"))
    with pytest.raises(VerificationFailed, match=r"README.md: `dataset_info.splits\[\d\].name` is missing"):
        check_dataset(data)


def test_a_card_of_another_tool_does_not_break_the_next_release(data: Path, repo_id: str, tmp_path: Path) -> None:
    """A stale `dataset_info` makes load_dataset raise NonMatchingSplitsSizesError."""
    from datasets import load_dataset

    push(folder=data, repo=repo_id, version="1.0.0")
    card = (data / "README.md").read_text()
    stale = card.replace("num_examples: ", "num_examples: 9")
    HfApi().upload_file(repo_id=repo_id, repo_type="dataset", path_in_repo="README.md", path_or_fileobj=stale.encode())

    def loaded(name: str, **options: Any) -> dict[str, int]:
        found = load_dataset(repo_id, cache_dir=str(tmp_path / name), **options)
        return {split: len(rows) for split, rows in found.items()}

    with pytest.raises(Exception, match="NonMatchingSplitsSizes|expected"):
        loaded("stale")
    push(folder=data, repo=repo_id, version="1.0.1")
    splits = PrepareManifest.read(data / "prepare.json").splits
    assert loaded("main") == loaded("tag", revision="v1.0.1") == splits


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38])
def test_numbers_that_are_none_are_never_verified(run: Path, tiny_base: Path, factor: float) -> None:
    from hubdpo.model.adapters.load import load_on_base

    recorded = Probes.read(run / "probes.json")
    scale_adapter(run, factor)
    model, tokenizer = load_on_base(run, tiny_base, device="cpu", load_in_4bit=True)
    for judge in (
        lambda: compare_probes(model, tokenizer, recorded),
        lambda: record_probes(model, tokenizer, load_in_4bit=True),
    ):
        with pytest.raises(VerificationFailed, match="no finite log-probability for"):
            judge()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("exact", [True, False])
def test_a_difference_that_is_no_number_is_none_that_passes(number: float, exact: bool) -> None:
    assert not ProbeResult(8, 60, number, number, exact=exact, tolerance=float("inf")).passed


@pytest.mark.parametrize(
    ("ref", "check", "message"), [("a/b@v1.0.0", "foo", "`check` is 'foo'"), (Path("data"), "load", "data")]
)
def test_what_cannot_be_verified_is_refused_before_the_hub_is_asked(
    ref: Any, check: Any, message: str, hub: Hub
) -> None:
    hub.server.requests.clear()
    with pytest.raises(HubdpoError, match=message):
        verify(ref, check=check)
    assert not hub.server.requests
