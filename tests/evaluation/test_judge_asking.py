"""A judge is asked in parallel, each question once, and its server may fail in any way that servers fail."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubdpo.artefacts.manifests.answered import Answered, Said
from hubdpo.artefacts.manifests.judged import Judged
from hubdpo.config import EvaluateConfig
from hubdpo.errors import ConfigError, JudgeError
from hubdpo.evaluation.judge.ask import VERDICTS
from hubdpo.evaluation.judge.judged import judged, open_panel
from hubdpo.evaluation.judge.server import Judge
from hubdpo.evaluation.kept import Kept
from tests.evaluation.judge_server import JudgeServer, Seen, first, longer, serving

KEY = "sk-this-is-no-real-key-0123456789abcdef"


pytestmark = pytest.mark.usefixtures("pauses")


def answers(*texts: str) -> list[Said]:
    return [
        Said(text=text, tokens=len(text.split()), ended=True, refuses=text.startswith("I cannot")) for text in texts
    ]


def pairs_of(base: list[Said], adapter: list[Said]) -> list[Answered]:
    return [
        Answered(row=row, prompt=[{"role": "user", "content": f"Question {row}?"}], base=one, adapter=other)
        for row, (one, other) in enumerate(zip(base, adapter, strict=True))
    ]


def judge_by(server: JudgeServer, base: list[Said], adapter: list[Said], kept: Path, **options: Any) -> Judged:
    options = {"judge_model": "judge-1", **options}
    panel = open_panel(EvaluateConfig(model="run", judge=server.url, **options))
    assert panel is not None
    return judged(panel, pairs_of(base, adapter), kept=Kept(kept, VERDICTS), weights="float32")[0]


BASE, ADAPTER = answers(*(f"base {n}" for n in range(12))), answers(*(f"adapter {n}" for n in range(12)))


def test_a_judge_that_goes_by_the_place_finds_one_half_and_agrees_with_itself_nowhere(tmp_path: Path) -> None:
    with serving(first) as server:
        report = judge_by(server, BASE, ADAPTER, tmp_path / "v")
    assert report.win_rate is not None and report.length_controlled is not None
    assert report.win_rate.value == report.length_controlled.value == 0.5
    assert (report.order_agreement, report.first_place, report.order_decided) == (0, 1, 12)
    assert (report.wins, report.losses, report.ties, report.sign_test_p) == (0, 0, 12, 1)


def test_a_judge_that_goes_by_length_gives_a_high_rate_and_a_controlled_one_of_one_half(tmp_path: Path) -> None:
    lengths = np.random.default_rng(3).permutation(
        [-9, -7, -5, -3, -2, -1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16]
    )
    base = answers(*("word " * 20 for _ in lengths))
    adapter = answers(*("text " * (20 + more) for more in lengths))
    with serving(longer) as server:
        report = judge_by(server, base, adapter, tmp_path / "v")
    assert report.win_rate is not None and report.length_controlled is not None
    assert report.win_rate.value == 0.7
    assert abs(report.length_controlled.value - 0.5) < 0.1
    assert (report.order_agreement, report.first_place, report.longer) == (1, 0.5, 0.7)


def test_the_quality_that_is_planted_beside_a_taste_for_length_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    more = np.round(rng.normal(6, 8, 160)).astype(int).clip(-20)
    odds = 0.7 + 2.0 * np.tanh(more / more.std())
    wins = rng.random(160) < 1 / (1 + np.exp(-odds))
    base = answers(*("word " * 25 for _ in more))
    adapter = answers(*("text " * (25 + one) for one in more))

    def mind(seen: Seen) -> str:
        row = int(seen.conversation.rpartition(" ")[2][:-1])
        return f"Verdict: {'A' if seen.a.startswith('text') == wins[row] else 'B'}"

    with serving(mind) as server:
        report = judge_by(server, base, adapter, tmp_path / "v", judge_requests=16)
    planted = 1 / (1 + np.exp(-0.7))
    assert report.win_rate is not None and report.length_controlled is not None
    assert report.win_rate.low > planted
    assert report.length_controlled.low < planted < report.length_controlled.high
    assert report.length_controlled.value < report.win_rate.low


def test_answers_that_are_the_same_are_ties_without_a_question(tmp_path: Path) -> None:
    base, adapter = answers("same ", "", "a", "", "b"), answers("same", " ", "a b", "x", "b")
    with serving(longer) as server:
        report = judge_by(server, base, adapter, tmp_path / "v")
        assert len(server.asked) == report.verdicts == 4
    assert (report.prompts, report.ties, report.equal, report.wins) == (5, 3, 3, 1)
    assert (report.empty.base, report.empty.adapter) == (2, 1)


def test_refusals_of_the_models_are_counted(tmp_path: Path) -> None:
    with serving(longer) as server:
        report = judge_by(server, answers("I cannot help with that."), answers("Gladly."), tmp_path / "v")
    assert (report.refusals.base, report.refusals.adapter) == (1, 0)


def test_the_verdict_on_each_pair_stands_beside_the_answers(tmp_path: Path) -> None:
    with serving(longer) as server:
        panel = open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))
        assert panel is not None
        base, adapter = answers("a", "b c", "d"), answers("a b", "b", "d ")
        _, told = judged(panel, pairs_of(base, adapter), kept=Kept(tmp_path / "v", VERDICTS), weights=None)
    verdicts = [(each.verdict.outcome, each.verdict.base_first) for each in told if each.verdict is not None]
    assert verdicts == [("adapter", "Verdict: B"), ("base", "Verdict: A"), ("equal", "")]


@pytest.mark.parametrize(
    ("replies", "unparsed", "asked_again"),
    [(["I like both!", "Verdict: B"], 0, 2), (["Hm.", "Hm!"], 1, 2), (["Verdict: B"], 0, 0)],
)
def test_a_reply_without_a_verdict_is_asked_about_once_more(
    replies: list[str], unparsed: int, asked_again: int, tmp_path: Path
) -> None:
    with serving(lambda seen: replies[seen.turn]) as server:
        report = judge_by(server, answers("a"), answers("b"), tmp_path / "v")
        again = [body["messages"] for body in server.bodies if len(body["messages"]) > 1]
    assert (report.unparsed, report.asked_again) == (unparsed, asked_again)
    assert (report.win_rate is None) == bool(unparsed)
    assert all(
        chat[1] == {"role": "assistant", "content": replies[0]} and "Verdict: A" in chat[2]["content"] for chat in again
    )


def test_a_tie_in_one_order_and_a_win_in_the_other_is_a_tie(tmp_path: Path) -> None:
    with serving(lambda seen: "Verdict: tie" if seen.a == "a" else "Verdict: A") as server:
        report = judge_by(server, answers("a"), answers("b"), tmp_path / "v")
    assert (report.ties, report.order_decided, report.order_agreement) == (1, 1, 0)


def test_questions_are_asked_at_the_same_time_and_no_more_than_allowed(tmp_path: Path) -> None:
    together, calls = threading.Barrier(5), itertools.count()

    def mind(seen: Seen) -> str:
        if next(calls) < 5:
            together.wait(timeout=60)
        return longer(seen)

    with serving(mind) as server:
        judge_by(server, BASE, ADAPTER, tmp_path / "v", judge_requests=5)
    assert server.most == 5


def test_a_verdict_that_is_kept_is_not_asked_for_again(tmp_path: Path) -> None:
    with serving(longer) as server:
        before = judge_by(server, BASE, ADAPTER, tmp_path / "v")
        again = judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert sum(server.asked.values()) == 24
        changed = [*ADAPTER[:-1], *answers("another")]
        judge_by(server, BASE, changed, tmp_path / "v")
        assert sum(server.asked.values()) == 26
        judge_by(server, BASE, ADAPTER, tmp_path / "v", rubric="harmless")
        assert sum(server.asked.values()) == 50
    assert again == before


def test_verdicts_stand_in_the_file_with_what_the_judge_said(tmp_path: Path) -> None:
    with serving(first) as server:
        judge_by(server, answers("a"), answers("b"), tmp_path / "v")
    lines = [json.loads(line) for line in (tmp_path / "v").read_bytes().splitlines()]
    assert sorted(line["first"] for line in lines) == ["adapter", "base"]
    assert lines[0]["replies"] == ["The first one stands first.\nVerdict: A"]
    assert {line["verdict"] for line in lines} == {"A"} and {line["judge"] for line in lines} == {"judge-1"}


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_is_busy_is_asked_again(status: int, pauses: list[float], tmp_path: Path) -> None:
    with serving(longer, faults=[(status, {"retry-after": "3"} if status == 429 else {})] * 3) as server:
        report = judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert set(server.asked.values()) == {1}
    assert (report.verdicts, report.unparsed) == (24, 0)
    assert len(pauses) == 3
    assert status != 429 or pauses == [3, 3, 3]


def test_a_server_that_stays_down_ends_the_command_with_what_is_kept(tmp_path: Path) -> None:
    with serving(longer) as server:
        judge_by(server, BASE[:6], ADAPTER[:6], tmp_path / "v")
        server.faults = [(503, {})] * 1000
        with pytest.raises(JudgeError, match="answered 503: .*later") as caught:
            judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert "verdicts are kept" in str(caught.value.hint)
        for thread in threading.enumerate():
            if thread.name == "judge":
                thread.join()
        server.faults.clear()
        judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert set(server.asked.values()) == {1}


def test_a_question_that_the_server_refuses_is_left_out_and_asked_about_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_long(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "the context has 512 tokens") if "base 3" in body["messages"][0]["content"] else None

    with serving(longer, refuses=too_long) as server:
        report = judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert "refuses 2 questions: " in (said := " ".join(capsys.readouterr().err.split())) and "512 tokens" in said
        server.refuses = lambda _: None
        again = judge_by(server, BASE, ADAPTER, tmp_path / "v")
    assert (report.refused, report.wins, report.verdicts) == (1, 11, 22)
    assert (again.refused, again.wins, again.verdicts) == (0, 12, 24)


def test_a_server_that_refuses_every_question_is_no_judge(tmp_path: Path) -> None:
    def too_long(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "too long") if "CONVERSATION" in body["messages"][0]["content"] else None

    with (
        serving(longer, refuses=too_long) as server,
        pytest.raises(JudgeError, match="refuses 4 questions: .*too long"),
    ):
        judge_by(server, BASE[:2], ADAPTER[:2], tmp_path / "v")


def test_tokens_are_counted_as_the_server_counts_them(tmp_path: Path) -> None:
    with serving(longer) as server:
        report = judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert report.prompt_tokens == sum(len(body["messages"][0]["content"].split()) for body in server.bodies[1:])
        assert report.completion_tokens == 48
        server.usage = False
        report = judge_by(server, BASE, ADAPTER, tmp_path / "w")
    assert report.prompt_tokens is report.completion_tokens is None


def test_requests_say_how_to_answer_and_nothing_that_servers_do_not_know(tmp_path: Path) -> None:
    with serving(longer) as server:
        judge_by(server, answers("a"), answers("b"), tmp_path / "v")
    assert {tuple(sorted(body)) for body in server.bodies} == {
        ("max_tokens", "messages", "model", "stream", "temperature")
    }
    assert {body["temperature"] for body in server.bodies} == {0}


def test_a_model_that_thinks_is_asked_in_its_own_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def only_newer(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "Unsupported parameter") if {"max_tokens", "temperature"} & body.keys() else None

    with serving(longer, refuses=only_newer) as server:
        report = judge_by(server, BASE, ADAPTER, tmp_path / "v")
        assert {body.get("max_completion_tokens") for body in server.bodies} == {16, 512}
    assert report.wins == 12
    assert "takes no temperature of 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "model", "words", "hint"),
    [
        ({}, "judge-2", "has no model `judge-2`", "its models are judge-1"),
        (
            {"models": None, "refuses": lambda _: (404, "Not Found")},
            "judge-1",
            "does not exist, or has no model",
            "check",
        ),
        ({"key": KEY}, "judge-1", "does not accept the key", "export HUBDPO_JUDGE_KEY="),
        (
            {"refuses": lambda _: (400, "no chat template")},
            "judge-1",
            "refuses to be asked: .*no chat template",
            "check",
        ),
        ({"extra": {"choices": None}}, "judge-1", "has no `choices`", "check `--judge`"),
        (
            {"extra": {"error": {"message": "no credit left", "code": 402}}},
            "judge-1",
            "an error: no credit left",
            "again",
        ),
        ({"extra": {"choices": [None]}}, "judge-1", "is not JSON as of", "check `--judge`"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_before_anything_is_loaded(
    options: dict[str, Any], model: str, words: str, hint: str
) -> None:
    with serving(longer, **options) as server, pytest.raises(JudgeError, match=words) as caught:
        open_panel(EvaluateConfig(model="run", judge=server.url, judge_model=model))
    assert hint in str(caught.value.hint)


def test_nobody_at_the_address_is_one_line() -> None:
    with serving(longer) as server:
        pass
    with pytest.raises(JudgeError, match=r"no answer from http://127.0.0.1:\d+/v1 \(ConnectError\)"):
        open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))


@pytest.mark.parametrize(("name", "is_told"), [("judge-2", True), ("judge-1.gguf", False)])
def test_a_server_that_has_another_model_than_the_one_that_is_asked_for_is_told_of(
    name: str, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(longer, models=["/models/judge-1.gguf"], any_name=True) as server:
        open_panel(EvaluateConfig(model="run", judge=server.url, judge_model=name))
    words = f"{server.url} does not list `{name}` (/models/judge-1.gguf), but answers as `judge-1-0426`"
    assert (words in " ".join(capsys.readouterr().err.split())) == is_told


@pytest.mark.parametrize("path", ["/home/me/models/judge-7b.gguf", "./judge-7b.gguf", "C:\\models\\judge-7b.gguf"])
def test_the_report_does_not_say_in_which_folder_the_judge_is(path: str, tmp_path: Path) -> None:
    with serving(longer, models=None, extra={"model": path}) as server:
        report = judge_by(server, answers("a"), answers("b"), tmp_path / "v", judge_model=path)
    assert (report.model, report.served) == ("judge-7b.gguf", "judge-7b.gguf")


def test_no_judge_is_no_panel() -> None:
    assert open_panel(EvaluateConfig(model="run")) is None


def test_offline_mode_is_about_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: True)
    with serving(longer) as server:
        assert judge_by(server, answers("a"), answers("b c"), tmp_path / "v").wins == 1


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com/v1beta/openai/chat/completions", "https://api.example.com/v1beta/openai"),
    ],
)
def test_the_address_is_that_of_openai_s_clients(url: str, address: str) -> None:
    assert Judge(url, "m").address == address


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@api.example.com/v1",
        "https://api.example.com/v1?api-key=secret",
        "https://secret@h/v1",
        "https://h/v1#secret",
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="more than an address") as caught:
        Judge(url, "m")
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h/v1", "http://", "http://[::1/v1", "http://h:x/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="`--judge") as caught:
        Judge(url, "m")
    assert "--judge http" in str(caught.value.hint)


def test_a_key_travels_encrypted_or_stays_on_private_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY would travel in clear text"):
        Judge("http://api.example.com/v1", "m")
    for url in (
        "https://api.example.com/v1",
        "http://10.0.0.7:8000/v1",
        "http://gpu-box:8000/v1",
        "http://[::1]:80/v1",
    ):
        Judge(url, "m")
    monkeypatch.delenv("OPENAI_API_KEY")
    Judge("http://api.example.com/v1", "m")


def test_a_server_without_a_key_is_not_sent_the_token_of_the_hub(tmp_path: Path) -> None:
    with serving(longer) as server:
        judge_by(server, answers("a"), answers("b c"), tmp_path / "v")
    assert {headers["authorization"] for headers in server.headers} == {"Bearer none"}
    assert os.environ["HF_TOKEN"] not in str(server.headers)


def test_the_key_is_sent_and_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("HUBDPO_JUDGE_KEY", f" {KEY}\n")
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        with serving(longer, key=KEY) as server:
            report = judge_by(server, answers("a"), answers("b c"), tmp_path / "v")
            panel = open_panel(EvaluateConfig(model="run", judge=server.url, judge_model="judge-1"))
            server.key = "a new one"  # which says what it was given
            with pytest.raises(JudgeError, match="does not accept") as caught:
                judge_by(server, answers("a"), answers("c"), tmp_path / "v")
    finally:
        logging.getLogger().removeHandler(handler)
    frames: list[str] = []
    trace = caught.value.__traceback__
    while trace is not None:
        if "test_" not in trace.tb_frame.f_code.co_filename:
            frames.append(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next
    told = [str(caught.value), str(caught.value.hint), repr(caught.value), *capsys.readouterr(), log.getvalue()]
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert frames
    assert "[REDACTED]" in str(caught.value)
    for text in (
        *told,
        *files,
        *frames,
        repr(panel),
        repr(vars(panel.judge)) if panel else "",
        report.model_dump_json(),
    ):
        assert KEY not in text


CHILD = """
import sys
from pathlib import Path
from types import SimpleNamespace
from hubdpo.errors import Stopped
from tests.evaluation.test_judge_asking import ADAPTER, BASE, judge_by
try:
    judge_by(SimpleNamespace(url=sys.argv[1]), BASE, ADAPTER, Path(sys.argv[2]), judge_requests=2)
except Stopped as stop:
    print(stop.hint)
"""


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    def slow(seen: Seen) -> str:
        time.sleep(0 if "Question 0" in seen.conversation else 60)
        return longer(seen)

    with serving(slow) as server:
        words = [sys.executable, "-c", CHILD, server.url, str(tmp_path / "v")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            while not (tmp_path / "v").exists() or (tmp_path / "v").read_bytes().count(b"\n") < 2:
                assert child.poll() is None
                time.sleep(0.05)
            time.sleep(0.5)
            child.send_signal(signal.SIGINT)
            said, _ = child.communicate(timeout=50)
    assert re.fullmatch(r"run the same command again: it goes on after [12] of 24 verdicts\n", said)


def test_a_kill_loses_no_verdict_and_no_verdict_is_asked_for_twice(tmp_path: Path) -> None:
    killed = threading.Event()

    def mind(seen: Seen) -> str:
        if sum(server.asked.values()) >= 8:
            killed.wait(60)
        return f"Verdict: {'A' if hash_of(seen.a) > hash_of(seen.b) else 'B'}"

    def hash_of(text: str) -> int:
        return sum(map(ord, text)) * 7919 % 101

    with serving(mind) as server:
        child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, str(tmp_path / "v")])
        while sum(server.asked.values()) < 8:
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
        child.wait()
        killed.set()
        kept = [json.loads(line) for line in (tmp_path / "v").read_bytes().splitlines()]
        resumed = judge_by(server, BASE, ADAPTER, tmp_path / "v", judge_requests=2)
        asked = sum(server.asked.values())
        whole = judge_by(server, BASE, ADAPTER, tmp_path / "w")
    assert 6 <= len(kept) < 24
    assert asked <= 24 + 2  # those under way at the kill were answered to nobody
    assert resumed == whole
    before = {line["key"] for line in kept}
    after = [json.loads(line) for line in (tmp_path / "v").read_bytes().splitlines()]
    assert [line for line in after if line["key"] in before] == kept
