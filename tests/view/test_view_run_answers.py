"""The answers of base and adapter to held-out prompts, without a browser."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, Said, Verdict, to_lines
from hubdpo.artefacts.manifests.evaluation import Quote, Quoted
from hubdpo.view.thing import Thing
from tests.view.ask import ask, page, words
from tests.view.made_datasets import thing_of
from tests.view.made_runs import report, write_run


def said(text: str, **changed: Any) -> Said:
    return Said(**{"text": text, "tokens": 5, "ended": True, "language": "en", **changed})


def answered(row: int, base: Said, adapter: Said, **changed: Any) -> Answered:
    prompt = [{"role": "system", "content": "Be short."}, {"role": "user", "content": f"question {row}"}]
    return Answered(**{"row": row, "prompt": prompt, "language": "en", "base": base, "adapter": adapter, **changed})


PROMPTS = [
    answered(3, said("It is a good day."), said("It is a <b>bad</b> day.", tokens=1_234)),
    answered(5, said("I cannot help.", refuses=True), said("Gladly", ended=False)),
    answered(7, said(""), said("Ein schöner Tag", language="de")),
    *(answered(row, said("same"), said("same")) for row in range(20, 31)),
]


@pytest.fixture
def thing(tmp_path: Path) -> Thing:
    return thing_of(made(tmp_path / "run", PROMPTS))


def made(folder: Path, prompts: list[Answered]) -> Path:
    run = write_run(folder, evaluated=report([("why?", "a", "b")]))
    (run / ANSWERED_FILE).parent.mkdir()
    (run / ANSWERED_FILE).write_bytes(to_lines(prompts))
    return run


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="row-(\d+)"', html)]


def test_held_out_prompts_stand_before_the_fixed_ones_with_their_rows(thing: Thing) -> None:
    html = page(thing, "/answers")
    assert numbers(html) == [3, 5, 7, 20, 21, 22, 23, 24, 25, 26]
    assert re.findall(r'<mark class="differs">(.*?)</mark>', html)[0] == "good"
    assert "&lt;" in html and "<b>bad" not in html
    text = words(html)
    assert "14 prompts of 14" in text
    assert "Be short." in text and "question 3" in text
    assert "base 5 tokens" in text and "adapter 1,234 tokens" in text
    assert "base 5 tokens, begins like a refusal" in text and "adapter 5 tokens, did not end" in text
    assert "adapter 5 tokens, en → de" in text
    assert "(empty answer)" in text
    assert text.count("the same answer") == 14
    assert text.index("question 3") < text.index("why?")
    assert numbers(page(thing, "/answers?from=10")) == [27, 28, 29, 30]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("only=unended", [5]), ("only=refusal", [5]), ("only=language", [7]), ("only=differ", [3, 5, 7]),
        ("q=SCHÖNER", [7]), ("q=question+2", [20, 21, 22, 23, 24, 25, 26, 27, 28, 29]), ("q=nothing", []),
        ("row=21", [21]),
    ],
)  # fmt: skip
def test_held_out_prompts_are_filtered_and_searched(thing: Thing, query: str, rows: list[int]) -> None:
    html = page(thing, f"/answers?{query}")
    assert numbers(html) == rows
    assert ("No prompt fits." in html) is (not rows)
    assert ("why?" in html) is (not query.startswith("row"))


def test_the_verdict_of_a_judge_stands_beside_the_answers(tmp_path: Path) -> None:
    verdict = Verdict(outcome="adapter", base_first="B is <i>better</i>: [[B]]", adapter_first="[[A]]")
    judged = [PROMPTS[0].model_copy(update={"verdict": verdict}), PROMPTS[1]]
    thing = thing_of(made(tmp_path / "run", judged))
    assert "judge: the adapter's answer is better" in unescape(page(thing, "/answers"))
    assert "the adapter's answer is better (1)" in unescape(page(thing, "/answers"))
    assert numbers(page(thing, "/answers?only=adapter")) == [3]
    html = page(thing, "/answers?row=3")
    assert "B is &lt;i&gt;better&lt;/i&gt;: [[B]]" in html


def test_a_row_that_was_not_answered_and_a_damaged_file_are_told(thing: Thing, tmp_path: Path) -> None:
    assert "row 4 was not answered" in ask(thing, "/answers?row=4").content.decode()
    run = tmp_path / "run"
    (run / ANSWERED_FILE).write_bytes(b'{"row": 3}\n')
    broken = ask(thing_of(run), "/answers")
    assert broken.status == 500
    assert "line 1: these are not two answers to a prompt" in unescape(broken.content.decode())


def test_without_local_answers_those_that_the_card_quotes_are_shown(tmp_path: Path) -> None:
    quote = Quote(prompt="[user] <i>how</i>?", base="So it is.", adapter="So it was.", outcome="order")
    shown = report([("why?", "a", "b")]).model_copy(update={"quoted": Quoted(of=32, seed=0, quotes=[quote])})
    html = page(thing_of(write_run(tmp_path / "run", evaluated=shown)), "/answers")
    assert "&lt;i&gt;how&lt;/i&gt;?" in html
    assert "Judge: a tie, as the order decided" in html
    assert re.findall(r'<mark class="differs">(.*?)</mark>', html)[:2] == ["is", "was"]
