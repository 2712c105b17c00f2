"""What rows that no converter knows are told: their cause, and options filled in from their own names."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.config.map_option import parse_map
from hubdpo.data.detection.names import near_name
from hubdpo.data.detection.suggest import suggest
from hubdpo.data.raw import pieces
from hubdpo.errors import DataError
from tests.data.made import lines, rows


def row(*names: str, **more: Any) -> dict[str, Any]:
    return {**{name: f"some text of {name}" for name in names}, **more}


def suggested(values: list[dict[str, Any]]) -> tuple[str, str | None]:
    found = suggest(values)
    return found.finding, found.hint


NAMED = {
    # columns: what the map says
    ("Prompt", "Chosen", "Rejected"): "prompt=Prompt,chosen=Chosen,rejected=Rejected",
    ("request", "chosen", "rejected"): "prompt=request,chosen=chosen,rejected=rejected",
    ("query", "pos_resp", "neg_resp"): "prompt=query,chosen=pos_resp,rejected=neg_resp",
    ("prompt", "preferred", "other"): "prompt=prompt,chosen=preferred,rejected=other",
    ("question", "chosen", "reject"): "prompt=question,chosen=chosen,rejected=reject",
    ("input", "chosenResponse", "rejectedResponse"): "prompt=input,chosen=chosenResponse,rejected=rejectedResponse",
    ("preferred_output", "non_preferred_output", "text"): (
        "prompt=text,chosen=preferred_output,rejected=non_preferred_output"
    ),
    ("user prompt", "better answer", "worse answer"): ("prompt=user prompt,chosen=better answer,rejected=worse answer"),
    ("query", "chosen_model", "rejected_model", "chosen", "rejected"): "prompt=query,chosen=chosen,rejected=rejected",
    ("query", "chosen_text", "rejected_text", "chosen_model", "rejected_model"): (
        "prompt=query,chosen=chosen_text,rejected=rejected_text"
    ),
    ("query", "chosen", "rejected", "chosen_text", "rejected_text"): "prompt=query,chosen=chosen,rejected=rejected",
    ("user context", "prompt", "good", "bad"): "prompt=prompt,chosen=good,rejected=bad",
    ("prompt", "choosen", "rejeted"): "prompt=prompt,chosen=choosen,rejected=rejeted",
    ("prompt", "choosed answer", "rejectd answer"): "prompt=prompt,chosen=choosed answer,rejected=rejectd answer",
    ("prompt", "prefered", "dispreffered"): "prompt=prompt,chosen=prefered,rejected=dispreffered",
    ("id", "query", "chosen_text", "rejected_text", "chosen_id"): (
        "prompt=query,chosen=chosen_text,rejected=rejected_text"
    ),
}


@pytest.mark.parametrize("names", NAMED)
def test_the_map_is_filled_in_from_the_names(names: tuple[str, ...]) -> None:
    told, options = suggested([row(*names), row(*names)])
    assert (told, options) == ("", f"--converter columns --map {shlex.quote(NAMED[names])}")
    parse_map(NAMED[names])


def test_a_suggested_map_can_be_pasted(tmp_path: Path) -> None:
    values = [{"Request": one["prompt"], "good, = one": one["chosen"], " bad one": one["rejected"]} for one in rows(3)]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    with pytest.raises(DataError, match="no converter fits") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    words = shlex.split(caught.value.hint or "")
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert manifest is not None
    assert manifest.funnel.kept == 3


def test_a_system_column_goes_along() -> None:
    _, options = suggested([row("system", "instruction", "chosen_response", "rejected_response")])
    named = "prompt=instruction,chosen=chosen_response,rejected=rejected_response,system=system"
    assert options == f"--converter columns --map {named}"
    parse_map(named)


VOTED = [
    (row("query", "ans A", "ans B", our_winner="A"), ""),
    (row("prompt", "reply1", "reply2", preference=0), " --labels first=...,second=..."),
    (row("request", "left_text", "right_text", choice="left"), ""),
]


@pytest.mark.parametrize(("value", "labels"), VOTED)
def test_of_two_answers_and_a_vote_no_better_one_is_guessed(value: dict[str, Any], labels: str) -> None:
    told, options = suggested([value])
    prompt, first, second, vote = value
    assert f"two answers, `{first}` and `{second}`, and perhaps a vote, `{vote}` ({value[vote]})" in told
    mapping = shlex.quote(f"prompt={prompt},first={first},second={second},vote={vote}")
    assert options == f"--converter columns --map {mapping}{labels}"
    parse_map(shlex.split(options)[3])


@pytest.mark.parametrize("name", ["selected", "projected", "letter", "prepared", "choices"])
def test_another_word_is_no_misspelt_one(name: str) -> None:
    assert suggested([row("prompt", name, "rejected")])[1] is None


def test_of_two_answers_one_may_be_misspelt() -> None:
    _, options = suggested([row("prompt", "reponse_a", "response_b", winner="A")])
    assert options == "--converter columns --map prompt=prompt,first=reponse_a,second=response_b,vote=winner"


def test_the_votes_of_several_people_are_taken_together() -> None:
    told, options = suggested([row("prompt", "reply_a", "reply_b", rater_1="A", rater_2="B")])
    assert "votes of several people, `rater_1` (A), `rater_2` (B)" in told
    assert options == "--prompt prompt --answers reply_a --answers reply_b --vote rater_1 --vote rater_2"


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("good", "--prompt prompt --answer completion --label feedback"),
        (5, "--prompt prompt --answer completion --label feedback --labels good=...,bad=..."),
    ],
)
def test_the_label_of_one_answer_is_told(value: Any, options: str) -> None:
    told, hint = suggested([row("prompt", "completion", feedback=value)])
    assert f"and perhaps a label, `feedback` ({value})" in told
    assert hint == options


@pytest.mark.parametrize(
    ("names", "scores", "options"),
    [
        (("prompt", "response", "score"), (4.5, 2, 10), "--prompt prompt --answer response --scores score"),
        (("query", "response", "my rating"), ("4", "2", "3"), "--prompt query --answer response --scores 'my rating'"),
        (("prompt", "answer", "score"), (1, 5), "--prompt prompt --answer answer --scores score"),
        (("query", "output", "quality"), (0.1, 0.9), "--prompt query --answer output --scores quality"),
        (
            ("prompt", "response", "score"), (1, 0),
            "--prompt prompt --answer response --label score --labels good=...,bad=...",
        ),
        (("prompt", "response", "rating"), ("good", "bad"), "--prompt prompt --answer response --label rating"),
    ],
)  # fmt: skip
def test_the_score_of_one_answer_is_told_from_a_label(
    names: tuple[str, ...], scores: tuple[Any, ...], options: str
) -> None:
    prompt, answer, score = names
    _, hint = suggested([row(prompt, answer, **{score: value}) for value in scores])
    assert hint == options


def test_rows_with_a_score_each_are_read_as_the_hint_says(tmp_path: Path) -> None:
    values = [{"prompt": f"q{i}", "response": f"{s} of {i}", "score": s} for i in range(3) for s in (2, 10)]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    with pytest.raises(DataError, match="perhaps a score, `score`") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert caught.value.hint == "--prompt prompt --answer response --scores score"
    manifest = prepare(
        source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", prompt="prompt", answer="response",
        scores="score", test_size=0,
    )  # fmt: skip
    assert manifest is not None
    assert manifest.funnel.kept == 3
    (chosen,) = {one["chosen"][0]["content"][:2] for one in load_preferences(tmp_path / "out")["train"]}
    assert chosen == "10"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("prompt", "chosen", "rejected_1", "rejected_2"), "prompt=prompt,chosen=chosen,rejected=rejected_1"),
        (("prompt", "chosen_a", "chosen_b", "rejected"), "prompt=prompt,chosen=chosen_a,rejected=rejected"),
        (("query", "good reply", "bad reply 1", "bad reply 2"), "prompt=query,chosen=good reply,rejected=bad reply 1"),
        (("frage", "chosen", "rejected_1", "rejected_2"), "prompt=frage,chosen=chosen,rejected=rejected_1"),
    ],
)
def test_one_answer_and_several_worse_ones_are_no_vote(names: tuple[str, ...], said: str) -> None:
    told, options = suggested([row(*names)])
    assert all(f"`{name}`" in told for name in names[1:])
    assert options == f"--converter columns --map {shlex.quote(said)}"


@pytest.mark.parametrize(
    ("values", "given", "message", "hint"),
    [
        ({"completions": [{"response": "a", "score": 1, "taste": 2}, {"response": "b", "score": 2, "taste": 1}]},
         "tastee", "`score`, `taste`", "--score-field taste"),
        ({"completions": [{"response": "a", "score": 1, "taste": 2}, {"response": "b", "score": 2, "taste": 1}]},
         "fun", "`score`, `taste`", "--score-field ..."),
        ({"responses": ["a", "b"], "scores": [1, 2]}, "scoer", "`scores`", "--score-field scores"),
    ],
)  # fmt: skip
def test_a_score_that_no_answer_has_is_told_with_those_that_they_have(
    values: dict[str, Any], given: str, message: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"prompt": "q", **values}] * 2))
    with pytest.raises(DataError, match=f"no answer has a member `{given}`; their scores are {message}") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", score_field=given)
    assert caught.value.message.endswith(message)
    assert caught.value.hint == hint


def test_rows_that_call_a_column_rejected_are_not_told_that_they_have_one_answer() -> None:
    assert suggested([row("prompt", "completion", "rejected_completion")]) == ("", None)


def test_two_answers_without_a_vote_are_told() -> None:
    told, options = suggested([row("prompt", "answer_1", "answer_2")])
    assert "nothing that says which is better" in told
    assert options is None


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        row("prompt", "completion"),
        row("instruction", "input", "output"),
        {"conversations": [{"from": "human", "value": "q"}]},
    ],
)
def test_rows_with_one_answer_are_told_so(tmp_path: Path, value: dict[str, Any]) -> None:
    for text in (lines([value] * 3), json.dumps(value, indent=1).encode()):
        (tmp_path / "raw.json").write_bytes(text)
        with pytest.raises(DataError, match="one answer each") as caught:
            prepare(source=str(tmp_path / "raw.json"), output_dir=tmp_path / "out")
        assert "two answers to each prompt" in caught.value.message
        assert (caught.value.hint or "").startswith("hubdpo prepare --describe ")


@pytest.mark.parametrize(
    ("name", "data", "message", "hint"),
    [
        (
            "a.jsonl",
            b"\n\n{'prompt': 'x'}\n{}x\n",
            "line 3 is the first: malformed_line, .* single quotes",
            "literal_eval",
        ),
        ("b.jsonl", b"not json\n" * 3, "line 1 is the first: malformed_line, .* at column 1", "sed -n 1p b.jsonl"),
        ("c.json", b"[1, 2]", "item 1 is the first: not_an_object, a number, not an object", "jq '.\\[0\\]' c.json"),
        ("d.jsonl", (b'{"a": "' + b"x" * 3000 + b'"}\n') * 2, "line_too_long, it has more than 2,000", "--max-line-b"),
        (
            "h.jsonl",
            b'{"a": "' + b"x" * 3000 + b'"}\n',
            "more than 2,000 bytes without a list",
            "--max-line-bytes 3010",
        ),
        ("e.csv", b"prompt,chosen,rejected\na,b\n", "line 2 is the first: .* it has fewer values", "sed -n 2p e.csv"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"converter": "preference"}, {"map": "prompt=a,chosen=b,rejected=c"}])
def test_a_file_without_a_row_says_which_line_failed_and_why(
    tmp_path: Path, name: str, data: bytes, message: str, hint: str, options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        prepare(source=str(tmp_path / name), output_dir=tmp_path / "out", max_line_bytes=2000, **options)  # type: ignore[arg-type]
    assert hint.replace("\\", "") in (caught.value.hint or "")


@pytest.mark.parametrize(("data", "what"), [(b"\n\n \n", "no rows"), (b"{}\n{}\n", "2 rows without a field")])
def test_a_file_without_a_field_says_so(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "raw.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=f"raw.jsonl holds {what}"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")


@pytest.mark.parametrize("name", ["a b.jsonl", "a.csv", "a.jsonl.gz"])
def test_the_command_for_a_line_runs_from_anywhere(tmp_path: Path, name: str) -> None:
    data = b"prompt,chosen,rejected\nq,a,b,line two\n" if name.endswith("csv") else b"line two\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(DataError) as caught:
        prepare(source=str(tmp_path / name), output_dir=tmp_path / "out")
    done = subprocess.run(caught.value.hint or "", shell=True, check=True, capture_output=True, text=True)
    assert "line two" in done.stdout


def test_columns_with_nothing_in_them_are_named(tmp_path: Path) -> None:
    rows = "q1,a,b\nq2,NULL,b\nq3,nan,b\nq4,NaN,b\n"
    (tmp_path / "raw.csv").write_text(f"prompt,chosen,rejected\n{rows}")
    with pytest.raises(DataError, match="no converter fits.*; empty are `chosen` in 3 of the first 4"):
        prepare(source=str(tmp_path / "raw.csv"), output_dir=tmp_path / "out")


def test_the_line_is_counted_over_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8)
    (tmp_path / "raw.jsonl").write_bytes(b"\n" * 29 + b"x\n")
    with pytest.raises(DataError, match="line 30 is the first"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("prompt=Prompt,chosen=chosn,rejected=rejected", "--map prompt=prompt,chosen=chosen,rejected=rejected"),
        ("prompt=question,chosen=x,rejected=y", "--map prompt=prompt,chosen=chosen,rejected=rejected"),
        ("prompt=prompt,chosen=chosen,rejected=z", "--map prompt=prompt,chosen=chosen,rejected=rejected"),
        ("prompt=prompt,chosen=rejected,rejected=z", "--map prompt=prompt,chosen=rejected,rejected=..."),
        ("prompt=prompt,chosen=chosen,rejected=chosenn", "--map prompt=prompt,chosen=chosen,rejected=rejected"),
        ("prompt=id,chosen=chosen,rejected=rejectd", "--map prompt=id,chosen=chosen,rejected=rejected"),
        (
            "prompt=prompt,first=chosen,second=rejecte,vote=w",
            "--map prompt=prompt,first=chosen,second=rejected,vote=...",
        ),
    ],
)
def test_a_column_that_no_row_has_is_told_with_the_one_that_was_meant(tmp_path: Path, given: str, hint: str) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"id": 1}, *rows(3)]))
    with pytest.raises(DataError, match="no row has a column .*; the rows have `id`, `prompt`") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", map=given)
    assert caught.value.hint == hint


def test_names_are_near_whatever_their_case_and_signs() -> None:
    names = ["chosen_response", "id"]
    assert near_name("Chosen Response", names) == near_name("chosenResponse", names) == "chosen_response"
    assert near_name("rejected", names) is None


@pytest.mark.parametrize(
    ("row", "told", "hint"),
    [
        (
            {"completions": [{"text": "good", "quality": 9, "style": 1}, {"text": "bad", "quality": 2, "style": 2}]},
            "the answers in `completions` have `quality`, `style`",
            "--prompt prompt --answers 'completions[].text' --scores 'completions[].quality'",
        ),
        ({"responses": "['good', 'bad']", "ratings": "[5, 2]"}, "`responses` holds lists written as text", ".jsonl"),
    ],
)  # fmt: skip
def test_lists_of_answers_that_nothing_scores_get_what_reads_them(
    tmp_path: Path, row: dict[str, Any], told: str, hint: str
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"prompt": f"q{n}", **row} for n in range(3)]))
    with pytest.raises(DataError, match=told) as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert hint in (caught.value.hint or "")
    if not (caught.value.hint or "").startswith("--"):
        return
    words = shlex.split(caught.value.hint or "")
    options = {words[n][2:].replace("-", "_"): words[n + 1] for n in range(0, len(words), 2)}
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, **options)  # type: ignore[arg-type]
    assert manifest is not None
    assert manifest.funnel.kept == 3


TWO = {"prompt": "q", "response_a": "x", "response_b": "y"}


@pytest.mark.parametrize(
    ("row", "given", "told", "hint"),
    [
        (
            TWO,
            "unpaired",
            "no row has one answer with a label, .*nothing that says which is better; DPO needs",
            "hubdpo prepare --describe",
        ),
        ({**TWO, "winner": "a"}, "unpaired", "the rows have `prompt`, `response_a`, `response_b`", "--converter voted"),
        ({**TWO, "label": 1}, "unpaired", "no row has one answer", "--converter voted"),
        (row("prompt", "chosen", "rejected"), "scored", "no row has answers with scores", "--converter preference"),
        (
            row("query", "good", "bad"),
            "openai",
            "no row has input",
            "--converter columns --map prompt=query,chosen=good,rejected=bad",
        ),
        (
            row("prompt", "response", my_rating=5),
            "scored",
            "perhaps a score",
            "--prompt prompt --answer response --scores my_rating",
        ),
    ],
)
def test_a_format_of_another_shape_gets_the_one_that_fits(
    tmp_path: Path, row: dict[str, Any], given: str, told: str, hint: str
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([row] * 3))
    with pytest.raises(DataError, match=told) as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", converter=given)
    assert (caught.value.hint or "").startswith(hint)


def test_a_label_beside_two_answers_calls_one_answer_good(tmp_path: Path) -> None:
    values = [{**TWO, "label": 1}, {"prompt": "q", "completion": "x", "label": 5}]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    with pytest.raises(DataError, match="nothing says whether a label") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", converter="unpaired")
    assert "--labels good=...,bad=..." in (caught.value.hint or "")


def test_of_very_many_columns_the_first_are_looked_at() -> None:
    columns = {"question": "Q", "good": "a", "bad": "b"}
    many = {f"column {number}": "text" for number in range(3000)}
    assert suggest([{**columns, **many}]).keys == {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert "chosen" not in (suggest([{**many, **columns}]).keys or {})
