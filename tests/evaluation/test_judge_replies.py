"""What a judge's server says is untrusted: it may quote the key, have no API, or no verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.config import EvaluateConfig
from hubdpo.errors import ConfigError, JudgeError
from hubdpo.evaluation.judge.ask import VERDICTS
from hubdpo.evaluation.judge.hosts import is_private
from hubdpo.evaluation.judge.judged import judged, open_panel
from hubdpo.evaluation.kept import Kept
from tests.evaluation.judge_server import longer, serving
from tests.evaluation.test_judge_asking import KEY, answers, judge_by, pairs_of

pytestmark = pytest.mark.usefixtures("pauses")


def test_a_server_that_quotes_the_key_does_not_get_it_into_files_or_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUBDPO_JUDGE_KEY", KEY)
    names = [f"judge of {KEY}", "another"]
    with serving(lambda _: f"{KEY}\nVerdict: A", models=names, any_name=True, extra={"model": f"m-{KEY}"}) as server:
        panel = open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))
        assert panel is not None
        kept = Kept(tmp_path / "v", VERDICTS)
        report, told = judged(panel, pairs_of(answers("a"), answers("b c")), kept=kept, weights=None)
        server.any_name = False
        with pytest.raises(JudgeError) as caught:
            open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))
    assert report.served == "m-[REDACTED]"
    files = [(tmp_path / "v").read_text(), report.model_dump_json(), *map(str, told)]
    assert "[REDACTED]\\nVerdict: A" in files[0]
    for text in [*files, str(caught.value), str(caught.value.hint), *capsys.readouterr()]:
        assert KEY not in text


def test_a_key_that_is_no_secret_is_not_looked_for_in_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "tie")
    with serving(lambda _: "Verdict: tie") as server:
        assert judge_by(server, answers("a"), answers("b"), tmp_path / "v").ties == 1


def test_verdicts_that_cannot_be_read_are_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda seen: longer(seen) if "Question 0" in seen.conversation else "Both!") as server:
        judge_by(server, answers("a", "b", "c"), answers("a b", "c", "d"), tmp_path / "v")
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: 2 of 3 prompts left out, whose verdicts cannot be read" in said
    assert "ask a larger judge" in said


def test_a_reply_in_parts_is_read(tmp_path: Path) -> None:
    content = [{"type": "text", "text": "Well. "}, {"type": "image"}, {"type": "text", "text": "Verdict: tie"}]
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    with serving(longer, extra={"choices": [choice]}) as server:
        report = judge_by(server, answers("a"), answers("b"), tmp_path / "v")
    assert (report.ties, report.unparsed) == (1, 0)


@pytest.mark.parametrize("page", ["<!doctype html><p>A chat", "", "[1]", '"ready"', '{"choices": [{"message": "A"}]}'])
def test_a_server_without_the_api_is_told_at_once(page: str, pauses: list[float]) -> None:
    with serving(longer, page=page) as server, pytest.raises(JudgeError, match="what http.* answers") as caught:
        open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))
    assert "ends in /v1" in str(caught.value.hint)
    assert pauses == []


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_path_that_is_not_the_api_is_told_at_once(status: int, pauses: list[float]) -> None:
    with serving(longer, refuses=lambda _: (status, "no")) as server, pytest.raises(JudgeError) as caught:
        open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))
    assert "does not exist" in str(caught.value) and "ends in /v1" in str(caught.value.hint)
    assert pauses == []


PRIVATE = ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "gpu-box", "3090box", "judge.internal", "localhost", "0.0.0.0"]
PRIVATE += ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "::ffff:10.0.0.1", "100.100.1.1", "LOCALHOST."]
PUBLIC = [
    "8.8.8.8",
    "api.openai.com",
    "2606:4700::1111",
    "134744072",
    "0x08080808",
    "0x8.8.2056",
    "010.8.8.8",
    "8.8.8.8.",
]
PUBLIC += ["::ffff:8.8.8.8", "99999999999", "\uff11\uff13\uff14744072", "8\u30028\u30028\u30028", "%38", "2001::1"]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_a_host_counts_by_the_address_that_it_means(host: str) -> None:
    assert not is_private(host)


@pytest.mark.parametrize("host", ["\u00fc..x", "a\x00b", "x" * 70])
def test_a_name_that_no_host_has_is_one_line(host: str, pauses: list[float]) -> None:
    with pytest.raises((ConfigError, JudgeError)) as caught:
        open_panel(EvaluateConfig(model="run", judge=f"http://{host}:9/v1", judge_model="judge-1"))
    assert caught.value.hint
    assert pauses == []


def test_a_rubric_whose_name_no_file_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no rubric `rrr"):
        open_panel(EvaluateConfig(model="run", judge="http://127.0.0.1:9/v1", judge_model="m", rubric="r" * 5000))
