"""The pages of an adapter on a Hub: those of its run, with the texts that the visitor may read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, Said, to_lines
from hubdpo.artefacts.manifests.run import DatasetRef
from hubdpo.view.thing import Thing
from tests.view.ask import words
from tests.view.hosting import CAROL, DAVE, Served, served
from tests.view.made_datasets import made_up, pair, write_dataset
from tests.view.made_runs import PAIRS, report, write_run


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Hub with a public adapter that was trained on a private dataset."""
    folder = tmp_path_factory.mktemp("hub")
    rows = [pair(f"question {row}", f"good answer {row}", f"bad answer {row}") for row in range(PAIRS)]
    data = write_dataset(folder / "data", {"train": made_up(3), "test": rows})
    for made in served(folder / "hub"):
        made.api.create_repo("carol/data", repo_type="dataset", private=True)
        revision = made.api.upload_folder(repo_id="carol/data", folder_path=data, repo_type="dataset").oid
        ref = DatasetRef(
            name="carol/data", repo_id="carol/data", revision=revision, fingerprint="0" * 64, train_pairs=3,
            test_pairs=PAIRS,
        )  # fmt: skip
        run = write_run(folder / "run", evaluated=report([("why?", "a", "b")]), dataset=ref)
        answers = Said(text="secret", tokens=1, ended=True)
        (run / ANSWERED_FILE).parent.mkdir()
        asked = Answered(row=0, prompt=[{"role": "user", "content": "secret"}], base=answers, adapter=answers)
        (run / ANSWERED_FILE).write_bytes(to_lines([asked]))
        made.api.create_repo("carol/adapter")
        made.api.upload_folder(repo_id="carol/adapter", folder_path=run, ignore_patterns=["local.json"])
        yield made


def test_an_adapter_has_the_pages_of_its_run(hub: Served) -> None:
    curves = hub.text("/carol/adapter/curves")
    assert "8 of 8 steps" in words(curves) and "data-live" not in curves
    assert hub.get("/carol/adapter/curves/loss?theme=dark").headers["content-type"] == "image/svg+xml"
    answers = hub.text("/carol/adapter/answers")
    assert "why?" in answers and "secret" not in answers
    assert "me/base@" in hub.text("/carol/adapter/options")


@pytest.mark.parametrize("token", ["", DAVE])
def test_texts_of_a_private_dataset_are_shown_to_nobody_else(hub: Served, token: str) -> None:
    own = hub.text("/carol/adapter/pairs?order=row", CAROL)
    assert "question 3" in own and 'href="/datasets/carol/data/viewer?split=test&amp;revision=' in own
    html = hub.text("/carol/adapter/pairs?order=row", token)
    assert "question" not in html and "/datasets/carol/data" not in html
    assert "adapter right" in html and "cannot be read here" in html
    # a search would tell which rows have a text
    assert "24 pairs of 24" in words(hub.text("/carol/adapter/pairs?q=answer+3", token))


def test_pages_of_a_hub_ask_no_other_hub(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thing, "dataset", lambda *_: pytest.fail("another Hub was asked"))
    assert "question 3" in hub.text("/carol/adapter/pairs?row=3", CAROL)
