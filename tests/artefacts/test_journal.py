"""What a run said while it trained, kept in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo import console
from hubdpo.artefacts.folders import journal
from hubdpo.artefacts.folders.journal import Entry, Journal, read_journal
from hubdpo.errors import Stopped, TrainingError


def test_warnings_and_the_error_at_the_end_are_kept(tmp_path: Path) -> None:
    kept = Journal()
    with pytest.raises(TrainingError), kept.kept():
        console.warn("one before the folder is opened")
        assert not [*tmp_path.iterdir()], "a run that is refused leaves nothing"
        kept.open(tmp_path, "training from step 0")
        console.warn("one\nmore")
        raise TrainingError("the device ran out of memory", hint="--max-length 512")
    console.warn("one after it")
    assert read_journal(tmp_path) == [
        Entry("began", "training from step 0"),
        Entry("warning", "one before the folder is opened"),
        Entry("warning", "one\\nmore"),
        Entry("failed", "the device ran out of memory", "--max-length 512"),
    ]


def test_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    kept = Journal()
    with pytest.raises(Stopped), kept.kept():
        kept.open(tmp_path, "training from step 0")
        raise Stopped("hubdpo train --resume")
    assert read_journal(tmp_path)[-1] == Entry("stopped", "it was stopped", "hubdpo train --resume")


def test_the_journal_stays_small_over_all_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_LINES", 4)
    for _ in range(3):
        kept = Journal()
        kept.open(tmp_path, "training from step 0")
        kept.note(Entry("warning", "x" * 100_000))
    found = read_journal(tmp_path)
    assert [entry.kind for entry in found] == ["began", "warning"] * 2
    assert max(len(entry.text) for entry in found) < 2_100


@pytest.mark.parametrize("text", ["", "[]\n", '{"kind": "began"}\n', '{"kind": "began", "text": "a", "hi'])
def test_a_damaged_journal_is_read_as_far_as_it_goes(tmp_path: Path, text: str) -> None:
    whole = '{"kind": "warning", "text": "a", "hint": ""}\n'
    (tmp_path / "journal.jsonl").write_text(whole + text)
    assert read_journal(tmp_path) == [Entry("warning", "a")]
