"""What text alone cannot be, tool calls, pictures and talks of several speakers, is counted and named by its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.data.pairs.markers import kind_of, markers, template_mark
from hubdpo.data.pairs.message_column import MessageColumn
from tests.data.made import lines

CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'


def marks(text: str, *, answers: bool) -> set[str]:
    """Look at a text among others, so that its place in the batch matters too."""
    texts = ["x", "é" * 5, text, "end"]
    found = markers(MessageColumn.single_turns(texts, "assistant"), answers=answers)
    assert {row for row, _ in found} <= {2}
    return {marker for _, marker in found}


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        (f"<tool_call>\n{CALL}\n</tool_call>", "<tool_call>"), (f"I look.<tool_call>{CALL}</tool_call>", "<tool_call>"),
        ("<tool_response>\nrain\n</tool_response>", "<tool_response>"), ("<tool_results>x", "<tool_results>"),
        ('<function=weather>{"city": "Oslo"}</function>', "<function=…>"), (f"[TOOL_CALLS] [{CALL}]", "[TOOL_CALLS]"),
        (f"<|python_tag|>{CALL}", "<|python_tag|>"), (f"<function_call> {CALL}", "<function_call>"),
        (f"<functioncall> {CALL}", "<functioncall>"), ("[AVAILABLE_TOOLS] []", "[AVAILABLE_TOOLS]"),
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("answers", [True, False])
def test_tool_calls_in_text_are_found(text: str, marker: str, answers: bool) -> None:
    assert marks(text, answers=answers) == {marker}
    assert kind_of(marker) == "tool_calls"


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("What is in <img>a.png</img>?", "<img>…</img>"), ("one\n<image>\ntwo", "<image>"),
        ("Image-1: <image>\nwhat?", "<image>"), ("a <image_1> and", "<image_1>"), ("so <image 2>, too", "<image 2>"),
        ("![](data:image/png;base64,iVBORw0KGgo=)", "![](data:image/…)"),
        ("see ![a cat](data:image/jpeg;base64,/9j/) here", "![](data:image/…)"), ("x <|image_pad|> y", "<|image_pad|>"),
        ("<|vision_start|>", "<|vision_start|>"), ("hm <start_of_image> hm", "<start_of_image>"),
        ("[IMG_BREAK]", "[IMG_BREAK]"), ("<ImageHere> what", "<ImageHere>"), ("<IMG_CONTEXT>", "<IMG_CONTEXT>"),
        ("<|AUDIO|>", "<|AUDIO|>"), ("<image_placeholder> q", "<image_placeholder>"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("answers", [True, False])
def test_places_of_pictures_are_found(text: str, marker: str, answers: bool) -> None:
    assert marks(text, answers=answers) == {marker}
    assert kind_of(marker) == "media"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("用户：你好\n助手：您好\n用户：再见", {"用户：", "助手："}), ("用户: 你好 助手: 您好", {"用户:", "助手:"}),
        ("人类：你好。助理：您好", {"人类：", "助理："}),
        ("User: hi\nAssistant: hello\nUser: q", {"User:", "Assistant:"}),
        ("Human: hi\nAssistant: hello\nHuman: q", {"Human:", "Assistant:"}),
        ("USER: hi ASSISTANT: a", {"USER:", "ASSISTANT:"}),
        ("User: hi\nAI: hello", {"User:", "AI:"}), ("你好\n助手：", {"助手："}), ("q ASSISTANT:", {"ASSISTANT:"}),
        ("User: admin\nPassword: x", set()), ("用户：如何登录？", set()), ("User stories of AI: one", set()),
        ("My Assistant: a poem", set()), ("用户需求分析", set()), ("Use this.", set()),
    ],
)  # fmt: skip
def test_talks_of_speakers_are_found(text: str, found: set[str]) -> None:
    assert marks(text, answers=False) == found
    assert {kind_of(marker) for marker in found} <= {"speakers"}


@pytest.mark.parametrize("speaker", ["Assistant:", "助手：", "ASSISTANT:"])
def test_an_answer_that_names_its_speaker_is_found(speaker: str) -> None:
    assert marks(f"{speaker} yes", answers=True) == {speaker}


@pytest.mark.parametrize(
    "text",
    [
        '<img src="a.png" alt="x">', "Use the <img> tag.", "<image>http://a/b.png</image>",
        "<svg><image href='a'/></svg>",
        "<channel>\n<image>\n<url>a</url>\n</image>\n</channel>", "docker run <image> ls", "FROM <image>\nRUN ls",
        "image: <image>\n", "<video controls>", "std::function<int(int)> f",
        "<tool> <tools> <function>", "a[INDEX] b[TOOL]",
        "![a cat](https://a/b.png)", "[x](data:image/png;base64,aa)", "if a < b and c | d: [x]",
        "<stable> <endif>", "[IMG]",
        "template <typename T> void f()", "<table><tr><td>a</td></tr></table>",
        "<audio src='a.mp3'>", "a <|> b", "<", "[", "![",
    ],
)  # fmt: skip
@pytest.mark.parametrize("answers", [True, False])
def test_code_and_prose_are_no_marks(text: str, answers: bool) -> None:
    assert marks(f"so: {text} ok", answers=answers) == set()


def test_a_mark_does_not_reach_over_the_border_of_texts() -> None:
    for one, other in (("<tool_", "call>"), ("<img>a.png", "</img>"), ("![](data:", "image/png"), ("x\n<image", ">\n"),
                       ("wow!", "[x](data:image/png)")):  # fmt: skip
        assert not markers(MessageColumn.single_turns(["a", one, other, "b"], "user"), answers=True)
    assert markers(MessageColumn.single_turns(["q\n<image>", "b"], "user"), answers=True) == {(0, "<image>")}


def test_marks_are_told_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values: list[dict[str, Any]] = [
        {"prompt": f"q{i}", "chosen": f"<tool_call>{CALL}</tool_call>", "rejected": f"no {i}"} for i in range(3)
    ]
    values += [{"prompt": f"<image>\nq{i}", "chosen": "a<|eot_id|>", "rejected": "<tool_call>"} for i in range(2)]
    values += [{"prompt": "用户：hi\n助手：", "chosen": "a", "rejected": "b"}]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert {side: one.rows for side, one in manifest.template_markers.items()} == {"answers": 2}
    found = {kind: {s: (m.rows, m.markers) for s, m in sides.items()} for kind, sides in manifest.text_markers.items()}
    assert found == {
        "speakers": {"prompts": (1, {"助手：": 1, "用户：": 1})},
        "tool_calls": {"answers": (5, {"<tool_call>": 5})},
        "media": {"prompts": (2, {"<image>": 2})},
    }
    told = capsys.readouterr().err
    assert "2 answers hold marks of a chat template: `<|eot_id|>` 2; they stay as text" in told
    assert "5 answers hold tool calls or their results: `<tool_call>` 5; they are learned as plain text" in told
    assert (
        "2 prompts hold placeholders of pictures, video or sound: `<image>` 2; what they stand for is missing" in told
    )
    assert "1 prompts hold names of speakers: `助手：` 1, `用户：` 1; they stay as text" in told
    card = (tmp_path / "out/README.md").read_text()
    assert "5 answers contain tool calls or their results, as text: `<tool_call>` (5)" in card


def test_the_first_mark_of_turns_is_named() -> None:
    assert template_mark("<s>[INST] q [/INST] <tool_call> a</s>") == "[INST]"
    assert template_mark("a <tool_call> b") is None


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "count"),
    [
        ("What is the colour of {n}?", "What is the colour of {n}? Blue.", "What is the colour of {n}?\nRed.", 3),
        ("What is the colour of {n}? ", "What is the colour of {n}? It's blue", "What is the colour of {n}? Red", 3),
        ("What is the colour of {n}?", "What is the colour of {n}? Blue.", "Red.", 0),
        ("What is the colour of {n}?", "What is the colour of {n}?", "What is the colour of {n}? Red.", 0),
        ("Who? {n}", "Who? {n} Ann.", "Who? {n} Bob.", 0),
        ("What is the colour of {n}?", "What a question: blue is the colour.", "Well, it is the colour of red.", 0),
        ([("user", "hi"), ("assistant", "yes?"), ("user", "A river, {n}?")], "A river, {n}? Po", "A river, {n}? Ob", 3),
    ],
)  # fmt: skip
def test_answers_that_begin_with_their_prompt_are_counted(
    tmp_path: Path, prompt: Any, chosen: str, rejected: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(text: Any, n: int) -> Any:
        return text.format(n=n) if isinstance(text, str) else [{"role": r, "content": c.format(n=n)} for r, c in text]

    rows = [{"prompt": said(prompt, n), "chosen": said(chosen, n), "rejected": said(rejected, n)} for n in range(3)]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    manifest = prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    found = manifest.text_markers.get("repeats", {})
    assert [held.rows for held in found.values()] == ([count] if count else [])
    assert (f"warning: {count} answers hold their prompt once more" in capsys.readouterr().err) == bool(count)
