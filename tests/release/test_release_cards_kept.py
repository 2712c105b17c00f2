"""The card of a release: its list of changes, and what people wrote in the card of the release before."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from huggingface_hub import DatasetCard, HfApi, hf_hub_download, snapshot_download

import hubdpo
from hubdpo import push
from hubdpo.artefacts.folders.kinds import read_dataset_folder
from hubdpo.artefacts.formats.kept_sections import NOTE, split_card
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, EVAL_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ArtefactError, HubError
from hubdpo.loopback.faults import Fault
from hubdpo.release import protocol
from tests.release.made import record_files, scale_adapter

if TYPE_CHECKING:
    from tests.conftest import Hub

KEPT = "## Known problems\n\nRow 7 is odd."
END = "<!-- /hubdpo:keep -->"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small datasets, of 12 and of 16 pairs."""
    folder = tmp_path_factory.mktemp("kept")
    for number, pairs in enumerate((12, 16)):
        rows = [{"prompt": f"{i}?", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(pairs)]
        (folder / f"{number}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        hubdpo.prepare(source=[str(folder / f"{number}.jsonl")], output_dir=folder / f"d{number}", test_size=0)
    return [folder / f"d{number}" for number in range(2)]


@pytest.fixture
def data(prepared: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[0], tmp_path / "data"))


@pytest.fixture
def more(prepared: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[1], tmp_path / "more"))


@pytest.fixture
def run(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("release.json", "README.md")))


def card(repo: str, revision: str = "main", *, kind: str = "dataset") -> str:
    commit = HfApi().repo_info(repo, repo_type=kind, revision=revision).sha
    return Path(hf_hub_download(repo, "README.md", repo_type=kind, revision=commit)).read_text(encoding="utf-8")


def edit(repo: str, text: str, *, kind: str = "dataset") -> None:
    """Save the card in the web editor."""
    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo, repo_type=kind)


def rows(text: str) -> list[list[str]]:
    lines = (split_card(text).changes or "").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| v") and "." in line.split()[1]
    ]


def written(hub: Hub) -> list[str]:
    seen = list(hub.server.requests)
    return [r.path for r in seen if r.method in ("PUT", "DELETE") or "/commit/" in r.path or "/tag/" in r.path]


def test_the_first_release_says_so(data: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    assert rows(card(repo_id)) == [["v1.0.0", "this release", "first release"]]
    assert (data / "README.md").read_text() == card(repo_id)


def test_each_release_says_what_it_changed(data: Path, more: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    push(folder=more, repo=repo_id, version="1.1.0")
    push(folder=more, repo=repo_id, version="1.1.1")
    day = HfApi().list_repo_commits(repo_id, repo_type="dataset")[0].created_at.date().isoformat()
    assert rows(card(repo_id)) == [
        ["v1.1.1", "this release", "the same data"],
        ["v1.1.0", day, "train 12 → 16 pairs; other sources"],
        ["v1.0.0", day, "first release"],
    ]


def test_an_adapter_says_what_was_trained_otherwise(run: Path, repo_id: str) -> None:
    push(folder=run, repo=repo_id, version="1.0.0")
    scale_adapter(run, 2)
    manifest, report = RunManifest.read(run / "run.json"), EvalReport.read(run / EVAL_FILE)
    manifest.model_copy(update={"config": {**manifest.config, "beta": 0.2}}).write(run / "run.json")
    better = report.adapter_accuracy.model_copy(update={"value": 0.75})
    worse = report.adapter_accuracy.model_copy(update={"value": 0.5})
    report.model_copy(update={"adapter_accuracy": better}).write(run / EVAL_FILE)
    record_files(run)
    push(folder=run, repo=repo_id, version="1.1.0", check="hashes")
    report.model_copy(update={"adapter_accuracy": worse}).write(run / EVAL_FILE)
    record_files(run)
    push(folder=run, repo=repo_id, version="1.2.0", check="hashes")
    found = [row[2] for row in rows(card(repo_id, kind="model"))]
    was = f"{100 * report.adapter_accuracy.value:.1f} %"
    assert found == [
        "the same weights; held-out accuracy 75.0 % → 50.0 %",
        f"`beta` 0.1 → 0.2; held-out accuracy {was} → 75.0 %",
        "first release",
    ]


def test_a_version_between_is_listed_by_the_next(data: Path, more: Path, repo_id: str, hub: Hub) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    push(folder=data, repo=repo_id, version="2.0.0")
    push(folder=more, repo=repo_id, version="1.5.0")
    hub.server.requests.clear()
    push(folder=data, repo=repo_id, version="2.0.0")
    assert not written(hub)
    push(folder=more, repo=repo_id, version="2.1.0")
    assert [row[0] for row in rows(card(repo_id))] == ["v2.1.0", "v2.0.0", "v1.5.0", "v1.0.0"]
    assert rows(card(repo_id))[2][2] == "train 12 → 16 pairs; other sources"


def test_a_released_dataset_is_what_its_manifest_says(data: Path, more: Path, repo_id: str, tmp_path: Path) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    edit(repo_id, card(repo_id).replace(NOTE, KEPT))
    push(folder=more, repo=repo_id, version="1.1.0")
    folder = Path(snapshot_download(repo_id, repo_type="dataset", revision="v1.1.0", local_dir=tmp_path / "copy"))
    assert read_dataset_folder(folder) == read_dataset_folder(more)
    assert len(hubdpo.load_preferences(f"{repo_id}@v1.1.0")["train"]) == 16
    again = hubdpo.push(folder=folder, repo=f"{repo_id}-copy", version="1.0.0", dry_run=True)
    assert "README.md" in again.files


@pytest.mark.parametrize("where", ["main", "folder"])
def test_what_was_written_in_the_card_stays(where: str, data: Path, more: Path, repo_id: str, hub: Hub) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    if where == "main":
        edit(repo_id, card(repo_id).replace(NOTE, KEPT))
    else:
        (more / "README.md").write_text((more / "README.md").read_text().replace(NOTE, KEPT))
    push(folder=more, repo=repo_id, version="1.1.0")
    assert card(repo_id).rstrip().endswith(f"{KEPT}\n{END}")
    assert (more / "README.md").read_text() == card(repo_id)
    hub.server.requests.clear()
    push(folder=more, repo=repo_id, version="1.1.0")
    assert not written(hub)


def test_it_stays_under_its_heading(run: Path, repo_id: str) -> None:
    push(folder=run, repo=repo_id, version="1.0.0")
    note = f"<!-- hubdpo:keep limits -->\n* Not for children.\n{END}\n\n## Licence"
    edit(repo_id, card(repo_id, kind="model").replace("## Licence", note), kind="model")
    push(folder=run, repo=repo_id, version="1.1.0")
    assert note in card(repo_id, "v1.1.0", kind="model")


def test_the_release_before_tells_what_was_taken_out(data: Path, repo_id: str) -> None:
    (data / "README.md").write_text((data / "README.md").read_text().replace(NOTE, KEPT))
    push(folder=data, repo=repo_id, version="1.0.0")
    edit(repo_id, card(repo_id).replace(KEPT, ""))
    push(folder=data, repo=repo_id, version="1.1.0")
    assert KEPT not in card(repo_id)
    assert KEPT in card(repo_id, "v1.0.0")


def test_two_texts_for_one_section_are_refused(data: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    text = card(repo_id)
    edit(repo_id, text.replace(NOTE, "Theirs."))
    (data / "README.md").write_text(text.replace(NOTE, "Ours."))
    with pytest.raises(ArtefactError, match="both here and on the Hub"):
        push(folder=data, repo=repo_id, version="1.1.0")
    (data / "README.md").write_text(text.replace(NOTE, "Theirs."))
    push(folder=data, repo=repo_id, version="1.1.0")
    assert "Theirs." in card(repo_id, "v1.1.0")


def test_an_edit_after_the_release_is_left_alone_by_the_same_push(data: Path, repo_id: str, hub: Hub) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    edit(repo_id, card(repo_id).replace(NOTE, KEPT))
    hub.server.requests.clear()
    push(folder=data, repo=repo_id, version="1.0.0")
    assert not written(hub)
    assert KEPT in card(repo_id)


def test_an_edit_elsewhere_is_shown_and_warned_of(data: Path, repo_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    edit(repo_id, card(repo_id).replace("## Licence", "Call me.\n\n## Licence"))
    capsys.readouterr()
    push(folder=data, repo=repo_id, version="1.1.0", dry_run=True)
    planned = capsys.readouterr().err
    assert "1 line differs" in planned
    assert "+Call me." in planned
    push(folder=data, repo=repo_id, version="1.1.0")
    told = capsys.readouterr().err
    assert "edited by hand outside of the kept sections" in told
    assert "hubdpo:keep" in told
    push(folder=data, repo=repo_id, version="1.2.0")
    assert "edited by hand" not in capsys.readouterr().err


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_card_without_its_manifest_is_compared_with_the_newest_release(
    data: Path, repo_id: str, capsys: pytest.CaptureFixture[str], is_edited: bool
) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    HfApi().delete_file(BUNDLE_FILE, repo_id, repo_type="dataset")
    if is_edited:
        edit(repo_id, card(repo_id).replace("## Licence", "Call me.\n\n## Licence"))
    capsys.readouterr()
    push(folder=data, repo=repo_id, version="1.1.0")
    assert ("1 line differs" in capsys.readouterr().err) is is_edited


def test_a_card_by_hand_is_not_replaced_in_silence(
    data: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    HfApi().create_repo(repo_id, repo_type="dataset")
    edit(repo_id, f"---\nlicense: mit\n---\n\n# Mine\n\nWords.\n\n<!-- hubdpo:keep -->\n{KEPT}\n{END}\n")
    push(folder=data, repo=repo_id, version="1.0.0")
    assert "5 lines differ" in capsys.readouterr().err
    assert KEPT in card(repo_id)


def test_an_edit_while_the_release_is_on_its_way_is_told(
    data: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")

    def verify_while_somebody_types(*given: Any, **named: Any) -> Any:
        edit(repo_id, card(repo_id).replace(NOTE, KEPT))
        return verified(*given, **named)

    verified = protocol.verify_commit
    monkeypatch.setattr(protocol, "verify_commit", verify_while_somebody_types)
    push(folder=data, repo=repo_id, version="1.1.0")
    assert "while the release was on its way" in capsys.readouterr().err


def test_an_edit_between_a_kill_and_its_repetition_is_told(
    data: Path, repo_id: str, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    hub.server.faults.add(Fault("status", "/commit/main", status=403))
    with pytest.raises(HubError):
        push(folder=data, repo=repo_id, version="1.1.0")
    hub.server.faults.clear()
    edit(repo_id, card(repo_id).replace(NOTE, KEPT))
    push(folder=data, repo=repo_id, version="1.1.0")
    assert "edited by hand" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["hf_" + "a" * 34, "see /home/someone/notes.txt"])
def test_what_was_written_is_looked_through(text: str, data: Path, repo_id: str) -> None:
    (data / "README.md").write_text((data / "README.md").read_text().replace(NOTE, text))
    with pytest.raises(ArtefactError, match=r"README\.md. holds a") as caught:
        push(folder=data, repo=repo_id, version="1.0.0")
    assert text not in str(caught.value)


def test_a_section_that_is_open_on_main_is_told(data: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    edit(repo_id, card(repo_id).replace(END, ""))
    with pytest.raises(ArtefactError, match=r"README.md on main of .*never closed"):
        push(folder=data, repo=repo_id, version="1.1.0")


def test_rows_cannot_write_into_the_next_card(repo_id: str, tmp_path: Path) -> None:
    evil = f"<!-- hubdpo:keep -->\nevil\n{END}\n<!-- hubdpo:changes -->\nevil\n<!-- /hubdpo:changes -->"
    row = {"prompt": evil, "chosen": f"\n{evil}\n", "rejected": "no"}
    (tmp_path / "raw.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    hubdpo.prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "data", test_size=0)
    for version in ("1.0.0", "1.1.0"):
        push(folder=tmp_path / "data", repo=repo_id, version=version)
        assert not split_card(card(repo_id)).kept
        assert len(rows(card(repo_id))) == 1 + (version == "1.1.0")


def test_data_that_are_prepared_again_keep_what_was_written(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw.jsonl", tmp_path / "data"
    raw.write_bytes(b'{"prompt": "1?", "chosen": "yes", "rejected": "no"}\n')
    hubdpo.prepare(source=[str(raw)], output_dir=out, test_size=0)
    (out / "README.md").write_text((out / "README.md").read_text().replace(NOTE, KEPT))
    assert hubdpo.prepare(source=[str(raw)], output_dir=out, test_size=0) == read_dataset_folder(out)
    raw.write_bytes(raw.read_bytes() + b'{"prompt": "2?", "chosen": "yes", "rejected": "no"}\n')
    hubdpo.prepare(source=[str(raw)], output_dir=out, test_size=0)
    assert read_dataset_folder(out).splits == {"train": 2}
    assert KEPT in (out / "README.md").read_text()


SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_first_snippet_of_a_dataset_card_runs_in_the_folder_and_from_the_hub(
    tmp_path: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = tmp_path / "raw.jsonl", tmp_path / "out"
    raw.write_text("".join(json.dumps({"prompt": f"q {i}", "chosen": "a", "rejected": "b"}) + "\n" for i in range(7)))
    hubdpo.prepare(source=[str(raw)], output_dir=out, test_size=0)

    def loaded(card: str) -> int:
        space: dict[str, Any] = {}
        exec(SNIPPET.findall(card)[0], space)
        return len(space["data"]["train"])

    monkeypatch.chdir(out)
    here = (out / "README.md").read_text()
    assert loaded(here) == 7
    for version, repo in (("1.0.0", repo_id), ("1.1.0", repo_id), ("2.0.0", f"{repo_id}-other")):
        hubdpo.push(folder=out, repo=repo, version=version)
        published = DatasetCard.load(repo).content
        assert f'load_dataset("{repo}", revision="v{version}")' in published
        assert loaded(published) == 7
        assert "USER/NAME" not in published
        assert hubdpo.prepare(source=[str(raw)], output_dir=out, test_size=0) == read_dataset_folder(out)
    with pytest.raises(ArtefactError, match="README.md"):
        (out / "README.md").write_text(published.replace('revision="v2.0.0"', 'revision="v2.0.0", streaming=True'))
        read_dataset_folder(out)
