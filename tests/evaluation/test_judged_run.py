"""A run evaluated with a judge, and published: what stands in the report, and what never leaves this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import snapshot_download

from hubdpo import evaluate, push
from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, from_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.config import EvaluateConfig
from hubdpo.errors import ConfigError, JudgeError
from tests.evaluation.judge_server import JudgeServer, Seen, serving

if TYPE_CHECKING:
    from tests.conftest import Hub

KEY = "sk-this-is-no-real-key-0123456789abcdef"


def pedantic(seen: Seen) -> str:
    return f"I like the words of {seen.a[:5]!r}.\nVerdict: {'A' if seen.a > seen.b else 'B'}"


@pytest.fixture(scope="module")
def server() -> JudgeServer:
    with serving(pedantic, key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def judged_run(run_dir: Path, server: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(run_dir, folder)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HUBDPO_JUDGE_KEY", KEY)
        judge(folder, server)
    return folder


def judge(folder: Path, server: JudgeServer, **options: object) -> EvalReport:
    return evaluate(
        model=folder, judge=server.url, judge_model="judge-1", max_answers=6, max_new_tokens=12,
        base_weights="as-trained", **options,
    )  # fmt: skip


def texts_of(folder: Path) -> list[str]:
    """What was asked and answered."""
    found: list[Answered] = from_lines((folder / ANSWERED_FILE).read_bytes())
    asked = [str(message["content"]) for each in found for message in each.prompt]
    said = [line for each in found for answer in (each.base, each.adapter) for line in answer.text.split("\n")]
    return [text for text in (*asked, *said) if len(text) > 8]


def published(folder: Path, repo: str, version: str) -> dict[str, bytes]:
    push(folder=folder, repo=repo, version=version)
    copy = Path(snapshot_download(repo, revision=f"v{version}"))
    return {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_the_report_of_a_run_has_the_verdicts(judged_run: Path) -> None:
    report = EvalReport.read(judged_run / "eval.json")
    answered = from_lines((judged_run / ANSWERED_FILE).read_bytes())
    assert report.judged is not None and report.quoted is None
    assert report.judged.prompts == len(answered) == 6
    assert report.judged.wins + report.judged.losses + report.judged.ties == 6
    assert report.judged.weights == report.samples_weights
    outcomes = [each.verdict.outcome for each in answered if each.verdict is not None]
    assert outcomes.count("adapter") == report.judged.wins


def test_no_prompt_no_answer_and_no_key_is_published_without_consent(judged_run: Path, repo_id: str, hub: Hub) -> None:
    files = published(judged_run, repo_id, "1.0.0")
    assert "### Answers compared by a judge" in files["README.md"].decode()
    texts = texts_of(judged_run)
    assert len(texts) >= 6
    for name, data in files.items():
        assert not name.startswith("evaluation")
        for text in (*texts, "I like the words of", KEY):
            assert text.encode() not in data and json.dumps(text)[1:-1].encode() not in data, (name, text)
    for path in judged_run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_with_consent_the_card_quotes_some_and_the_judge_is_not_asked_again(
    judged_run: Path, server: JudgeServer, repo_id: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBDPO_JUDGE_KEY", KEY)
    asked, folder = sum(server.asked.values()), judged_run.with_name("quoted")
    shutil.copytree(judged_run, folder)
    report = judge(folder, server, publish_samples=True)
    assert sum(server.asked.values()) == asked
    assert report.judged == EvalReport.read(judged_run / "eval.json").judged
    assert report.quoted is not None and len(report.quoted.quotes) == 4
    card = published(folder, repo_id, "1.0.0")["README.md"].decode()
    assert "### Prompts and answers" in card
    assert all(quote.prompt.split("\n")[1] in card for quote in report.quoted.quotes)


def test_a_judge_that_is_not_there_is_told_before_torch_is_imported(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubdpo.evaluation.evaluate.pick_device", lambda _: pytest.fail("the device was looked for"))
    with serving(pedantic) as gone:
        pass
    with pytest.raises(JudgeError, match="no answer from"):
        judge(run_dir, gone)


@pytest.mark.parametrize("options", [{"judge": "http://h/v1", "judge_model": "m"}, {"publish_samples": True}])
def test_what_needs_answers_is_refused_without_them(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="needs answers, and `--max-answers` is 0") as caught:
        EvaluateConfig.build({"model": "run", "max_answers": 0, **options})
    assert caught.value.hint == "leave `--max-answers` out"
