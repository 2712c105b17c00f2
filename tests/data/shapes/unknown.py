"""Shapes that no converter reads: rows, and the description that is suggested, `...` for what a person must say."""

from __future__ import annotations

from typing import Any

from hubdpo.config.description import OPEN

Keys = dict[str, Any]
ASKED, MORE = ({"role": "user", "content": f"Q{n}"} for n in (1, 2))
ONE, TWO = ({"role": "assistant", "content": text} for text in ("one", "two"))
SAID = [{"speaker": "customer", "utterance": "Q"}]


def votes(*values: Any, vote: str = "pick", **columns: Any) -> list[dict[str, Any]]:
    columns = columns or {"task_text": "Q", "cand_x": "one", "cand_y": "two"}
    texts = {name: text for name, text in columns.items() if isinstance(text, str)}
    return [
        {**columns, **{name: f"{text} {n}" for name, text in texts.items()}, vote: value}
        for n, value in enumerate(values)
    ]


SIDES = {"prompt": "task_text", "answers": ["cand_x", "cand_y"], "vote": "pick"}
UNKNOWN = {"first": OPEN, "second": OPEN}
CANDS = {"q": "Q", "cands": ["one", "two", "three"]}
SHAPES: dict[str, tuple[list[dict[str, Any]], Keys]] = {
    "a vote by the words in which columns differ": (votes("x", "y"), SIDES),
    "votes of people, by words in which columns differ": (
        [{"task_text": "Q", "resp_a": "one", "resp_b": "two", "judge_1_vote": "a", "judge_2_vote": "b"},
         {"task_text": "Q", "resp_a": "one", "resp_b": "two", "judge_1_vote": "a", "judge_2_vote": "a"}],
        {"prompt": "task_text", "answers": ["resp_a", "resp_b"], "vote": ["judge_1_vote", "judge_2_vote"]},
    ),
    "a list of votes": (
        votes(["a", "a", "b"], vote="votes", ask="Q", resp_a="one", resp_b="two"),
        {"prompt": "ask", "answers": ["resp_a", "resp_b"], "vote": "votes"},
    ),
    "a vote in numbers": (
        votes(0, 1, vote="human", ctx="Q", resp_a="one", resp_b="two"),
        {"prompt": "ctx", "answers": ["resp_a", "resp_b"], "vote": "human", **UNKNOWN},
    ),
    "a vote in numbers from one": (
        votes(1, 2, vote="human", ctx="Q", resp_a="one", resp_b="two"),
        {"prompt": "ctx", "answers": ["resp_a", "resp_b"], "vote": "human", **UNKNOWN},
    ),
    "a vote in the numbers of the columns": (
        votes(1, 2, vote="human", ctx="Q", resp_1="one", resp_2="two"),
        {"prompt": "ctx", "answers": ["resp_1", "resp_2"], "vote": "human", "first": "1", "second": "2"},
    ),
    "nested sides": (
        votes("b", "b", vote="human", ctx=[ASKED], a={"text": "one", "by": "m"}, b={"text": "two", "by": "n"}),
        {"prompt": "ctx", "answers": ["a.text", "b.text"], "vote": "human"},
    ),
    "the number of the best column": (
        votes(0, 1, vote="best_idx", ask="Q", answer_1="one", answer_2="two"),
        {"prompt": "ask", "answers": ["answer_1", "answer_2"], "vote": "best_idx", "first": "0"},
    ),
    "the number of the best of four columns": (
        votes(3, 4, vote="best", ask="Q", answer_1="one", answer_2="two", answer_3="three", answer_4="four"),
        {"prompt": "ask", "answers": [f"answer_{n}" for n in (1, 2, 3, 4)], "vote": "best", "first": OPEN},
    ),
    "the number of the best of a list, unknown from where": (
        votes(1, 2, vote="gold_idx", **CANDS),
        {"prompt": "q", "answers": "cands", "vote": "gold_idx", "first": OPEN},
    ),
    "the number of the best of a list, from 0": (
        votes(1, 0, vote="gold_idx", **CANDS),
        {"prompt": "q", "answers": "cands", "vote": "gold_idx", "first": "0"},
    ),
    "the number of the best of a list, from 1": (
        votes(1, 3, vote="gold_idx", **CANDS),
        {"prompt": "q", "answers": "cands", "vote": "gold_idx", "first": "1"},
    ),
    "a number that may be 0 for a tie": (
        votes(0, 2, vote="best", **CANDS), {"prompt": "q", "answers": "cands", "vote": "best", "first": OPEN}
    ),
    "scores of each column": (
        [{"ask": "Q", "reply_a": "one", "reply_b": "two", "score_a": 3, "score_b": 1.5}],
        {"prompt": "ask", "answers": ["reply_a", "reply_b"], "scores": ["score_a", "score_b"]},
    ),
    "ranks of each column": (
        [{"ask": "Q", "reply_a": "one", "reply_b": "two", "rank_a": 2, "rank_b": 1}],
        {"prompt": "ask", "answers": ["reply_a", "reply_b"], "ranks": ["rank_a", "rank_b"]},
    ),
    "errors of each column": (
        [{"ask": "Q", "reply_a": "one", "reply_b": "two", "error_score_a": 3, "error_score_b": 1.5}],
        {"prompt": "ask", "answers": ["reply_a", "reply_b"], "vote": OPEN},
    ),
    "objects with a score": (
        [{"question": "Q", "model_outputs": [{"out": "one", "quality": 3}, {"out": "two", "quality": 1}]}],
        {"prompt": "question", "answers": "model_outputs[].out", "scores": "model_outputs[].quality"},
    ),
    "objects with a rank": (
        [{"question": "Q", "hyps": [{"out": "one", "model": "m", "rank": 2}, {"out": "two", "model": "n", "rank": 1}]}],
        {"prompt": "question", "answers": "hyps[].out", "ranks": "hyps[].rank"},
    ),
    "objects with a message and a score inside": (
        [{"question": "Q", "choices": [{"message": ONE, "eval": {"score": 1}},
                                       {"message": TWO, "eval": {"score": 2}}]}],
        {"prompt": "question", "answers": "choices[].message", "scores": "choices[].eval.score"},
    ),
    "objects with numbers of unknown meaning": (
        [{"question": "Q", "outputs": [{"out": "one", "n": 3}, {"out": "two", "n": 1}]}],
        {"prompt": "question", "answers": "outputs[].out", "scores": OPEN},
    ),
    "a list beside its scores": (
        [{"question": "Q", "cands": ["one", "two"], "reward_scores": [0.5, 0.7], "lengths": [3, 3]}],
        {"prompt": "question", "answers": "cands", "scores": "reward_scores"},
    ),
    "a list beside its ranks": (
        [{"question": "Q", "cands": ["one", "two", "three"], "human ranks": [2, 1, 3]}],
        {"prompt": "question", "answers": "cands", "ranks": "human ranks"},
    ),
    "a list beside an order, which may be ranks or the numbers of answers": (
        [{"question": "Q", "cands": ["one", "two", "three"], "order": [2, 3, 1]}],
        {"prompt": "question", "answers": "cands", "scores": OPEN},
    ),
    "lists in JSON": (
        [{"question": "Q", "cands": '["one", "two"]', "scores": "[1, 2]"}],
        {"prompt": "question", "answers": "cands", "scores": "scores"},
    ),
    "an object in JSON": (
        [{"meta": '{"question": "Q"}', "good": "one", "bad": "two"}],
        {"prompt": "meta.question", "chosen": "good", "rejected": "bad"},
    ),
    "nested pair": (
        [{"conversation": {"prompt": "Q"}, "pair": {"good": "one", "bad": "two"}}],
        {"prompt": "conversation.prompt", "chosen": "pair.good", "rejected": "pair.bad"},
    ),
    "pair of objects": (
        [{"ask": "Q", "chosen": {"answer": "one", "why": "yes"}, "rejected": {"answer": "two", "why": "no"}}],
        {"prompt": "ask", "chosen": "chosen.answer", "rejected": "rejected.answer"},
    ),
    "whole conversations": (
        [{"good_chat": [ASKED, ONE], "bad_chat": [ASKED, TWO]}],
        {"chosen": "good_chat", "rejected": "bad_chat"},
    ),
    "whole conversations and a vote": (
        votes("b", vote="verdict", chat_a=[ASKED, ONE], chat_b=[ASKED, TWO]),
        {"answers": ["chat_a", "chat_b"], "vote": "verdict"},
    ),
    "an instruction with its input": (
        [{"instruction": "Q", "input": "text", "good": "one", "bad": "two"}],
        {"prompt": ["instruction", "input"], "chosen": "good", "rejected": "bad"},
    ),
    "a system prompt and tools": (
        [{"system_prompt": "S", "tools": [{"type": "function", "function": {"name": "f"}}], "request": "Q",
          "good": "one", "bad": "two"}],
        {"prompt": "request", "system": "system_prompt", "tools": "tools", "chosen": "good", "rejected": "bad"},
    ),
    "messages with other keys": (
        [{"dialog": [{"speaker": "user", "utterance": "Q"}], "good": "one", "bad": "two"}],
        {"prompt": "dialog", "chosen": "good", "rejected": "bad", "role_key": "speaker", "content_key": "utterance"},
    ),
    "messages of unknown speakers": (
        [{"dialog": SAID, "good": "one", "bad": "two"}],
        {"prompt": "dialog", "chosen": "good", "rejected": "bad", "role_key": "speaker", "content_key": "utterance",
         "roles": {"customer": OPEN}},
    ),
    "known keys and unknown speakers": (
        [{"dialog": [{"role": "customer", "content": "Q"}], "good": "one", "bad": "two"}],
        {"prompt": "dialog", "chosen": "good", "rejected": "bad", "roles": {"customer": OPEN}},
    ),
    "rows in rows": (
        [{"id": 7, "items": [{"ask": "Q", "good": "one", "bad": "two"}, {"ask": "R", "good": "one", "bad": "two"}]}],
        {"rows": "items", "prompt": "ask", "chosen": "good", "rejected": "bad"},
    ),
    "pairs to one prompt": (
        [{"ask": "Q", "data": {"pairs": [{"good": "one", "bad": "two"}, {"good": "three", "bad": "two"}]}}],
        {"rows": "data.pairs", "prompt": "ask", "chosen": "good", "rejected": "bad"},
    ),
    "one answer with a score": (
        [{"ask": {"question": "Q"}, "answer": text, "my_score": n} for n, text in enumerate(("one", "two", "three"))],
        {"prompt": "ask.question", "answer": "answer", "scores": "my_score"},
    ),
    "one answer with a label in words": (
        [{"question": "Q", "reply": {"text": "one"}, "feedback": "good"},
         {"question": "Q", "reply": {"text": "two"}, "feedback": "bad"}],
        {"prompt": "question", "answer": "reply.text", "label": "feedback"},
    ),
    "one answer with a label of unknown meaning": (
        [{"question": "Q", "answer": text, "feedback": n} for n, text in enumerate(("one", "two"))],
        {"prompt": "question", "answer": "answer", "label": "feedback", "good": OPEN, "bad": OPEN},
    ),
    "columns that name two others": (
        [{"ask": "Q", "text_a": "one", "text_b": "two", "better": "b", "worse": "a"}],
        {"prompt": "ask", "answers": ["text_a", "text_b"], "vote": "better"},
    ),
    "a vote for the worse one": (
        votes("a", vote="worse_choice", ask="Q", text_a="one", text_b="two"),
        {"prompt": "ask", "answers": ["text_a", "text_b"], "vote": OPEN},
    ),
    "votes that are counted": (
        [{"ask": "Q", "text_a": "one", "text_b": "two", "votes_a": 3, "votes_b": 5}],
        {"prompt": "ask", "answers": ["text_a", "text_b"], "vote": OPEN},
    ),
    "a vote whose words say which is worse": (
        votes("A is worse", "B is worse", vote="verdict", ask="Q", text_a="one", text_b="two"),
        {"prompt": "ask", "answers": ["text_a", "text_b"], "vote": "verdict", **UNKNOWN},
    ),
    "objects with a score of which less may be better": (
        [{"question": "Q", "outputs": [{"out": "one", "toxicity_score": 3}, {"out": "two", "toxicity_score": 1}]}],
        {"prompt": "question", "answers": "outputs[].out", "scores": OPEN},
    ),
    "columns that are named after models": (
        votes("gpt4", "llama", vote="winner", ask="Q", gpt4_answer="one", llama_answer="two"),
        {"prompt": "ask", "answers": ["gpt4_answer", "llama_answer"], "vote": "winner", **UNKNOWN},
    ),
    "votes that differ in what they ask": (
        [{"ask": "Q", "text_a": "one", "text_b": "two", "safer": "a", "better": "b"}],
        {"prompt": "ask", "answers": ["text_a", "text_b"], "vote": OPEN},
    ),
    "objects with a mark": (
        [{"ask": "Q", "options": [{"text": "one", "is_chosen": True}, {"text": "two", "is_chosen": False}]}],
        {"prompt": "ask", "answers": "options[].text", "scores": OPEN},
    ),
    "a title and a body": (
        [{"post": {"title": "T", "body": "Q"}, "y_w": "one", "y_l": "two"}],
        {"prompt": "post.body", "chosen": "y_w", "rejected": "y_l"},
    ),
    "an object of answers and one of scores": (
        [{"ask": "Q", "replies": {"a": "one", "b": "two"}, "scores": {"a": 1, "b": 2}}],
        {"prompt": "ask", "answers": ["replies.a", "replies.b"], "scores": ["scores.a", "scores.b"]},
    ),
    "a column that names an answer, and does not say why": (
        votes("A", "B", vote="Votum", Frage="Q", **{"Antwort A": "one", "Antwort B": "two"}),
        {"prompt": "Frage", "answers": ["Antwort A", "Antwort B"], "vote": OPEN},
    ),
    "other languages": (
        votes("回答一", "回答二", vote="偏好", 问题="Q", 回答一="one", 回答二="two"),
        {"prompt": "问题", "answers": ["回答一", "回答二"], "vote": "偏好"},
    ),
    "no prompt": ([{"good": "one", "bad": "two"}], {"prompt": OPEN, "chosen": "good", "rejected": "bad"}),
}  # fmt: skip
