"""Shapes with several answers to a prompt: scores, ranks and trees, and single answers in rows of their own."""

from __future__ import annotations

from typing import Any

from tests.data.shapes.shape import (
    Shape,
    as_csv,
    first,
    flat,
    q,
    said,
    second,
    second_round,
    system,
    turns,
    vote,
    with_system,
)


def two(n: int, answer: Any) -> list[Any]:
    """Return the rows of a good and a bad answer, the first in front."""
    return [answer(first(n), vote(n, True, False)), answer(second(n), vote(n, False, True))]


def reply(n: int, mark: str, text: str, *, parent: str | None, rank: int | None, role: str) -> dict[str, Any]:
    """Return a message of Open-Assistant's export."""
    return {
        "message_id": f"{mark}{n}", "parent_id": parent and f"{parent}{n}", "user_id": "u", "text": text, "role": role,
        "lang": "en", "review_count": 3, "review_result": True, "deleted": False, "rank": rank, "synthetic": False,
        "model_name": None, "emojis": None, "labels": {"quality": {"value": 0.5, "count": 3}},
        "message_tree_id": f"q{n}", "tree_state": "ready_for_export",
    }  # fmt: skip


def tree(n: int) -> list[dict[str, Any]]:
    """Return the messages of a tree: a question, its one answer, another question with two ranked answers."""
    return [
        reply(n, "q", f"Q first {n}", parent=None, rank=None, role="prompter"),
        reply(n, "a", "A first", parent="q", rank=0, role="assistant"),
        reply(n, "r", q(n), parent="a", rank=0, role="prompter"),
        reply(n, "s", first(n), parent="r", rank=vote(n, 0, 1), role="assistant"),
        reply(n, "t", second(n), parent="r", rank=vote(n, 1, 0), role="assistant"),
        reply(n, "u", "A unranked", parent="r", rank=None, role="assistant"),
    ]


def nested(messages: list[dict[str, Any]], root: dict[str, Any]) -> dict[str, Any]:
    """Return a message with all replies inside."""
    replies = [nested(messages, child) for child in messages if child["parent_id"] == root["message_id"]]
    return {**root, "replies": replies}


def after_first(n: int) -> Any:
    prompt, chosen, rejected = second_round(n)
    return [("user", f"Q first {n}"), *prompt[1:]], chosen, rejected


GROUPS = {
    "ultrafeedback": Shape(
        lambda n: {
            "source": "s", "instruction": q(n), "models": ["m1", "m2"], "correct_answers": ["None"],
            "completions": [
                {
                    "annotations": {"helpfulness": {"Rating": "4"}}, "custom_system_prompt": "c", "model": f"m{i}",
                    "principle": "p", "response": text, "critique": "c", "overall_score": score,
                    "fine-grained_score": 3,
                }
                for i, (text, score) in enumerate(((first(n), vote(n, 8, 3)), (second(n), vote(n, 3, 8))))
            ],
        }
    ),
    "distilabel-ultrafeedback": Shape(
        lambda n: {
            "input": q(n), "generation_model": ["m1", "m2"], "generation_prompt": ["p", "p"],
            "generations": [first(n), second(n)], "labelling_model": "m", "rating": vote(n, [5, 1], [1, 5]),
            "rationale": ["r", "r"],
        }
    ),
    "responses-and-scores": Shape(
        lambda n: {"prompt": q(n), "responses": [first(n), second(n)], "scores": vote(n, [0.9, 0.1], [0.1, 0.9])}
    ),
    "gpt4-llm-comparison-2": Shape(
        lambda n: {
            "user_input": q(n),
            "responses_and_scores": [
                {"response": first(n), "source": "m1", "score": vote(n, 9.0, 3.0)},
                {"response": second(n), "source": "m2", "score": vote(n, 3.0, 9.0)},
            ],
        }
    ),
    "vertex": Shape(
        lambda n: {
            "systemInstruction": {"parts": [{"text": f"SYS {n}"}]},
            "contents": [{"role": "user", "parts": [{"text": q(n)}]}],
            "completions": [
                {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
                for text, score in ((first(n), vote(n, 1.0, 0.0)), (second(n), vote(n, 0.0, 1.0)))
            ],
        },
        with_system,
    ),
    "stack-exchange-preferences": Shape(
        lambda n: {
            "qid": n, "question": q(n), "metadata": ["m"],
            "answers": [
                {"answer_id": i, "author": "a", "pm_score": score, "selected": False, "text": text}
                for i, (text, score) in enumerate(((first(n), vote(n, 7, 1)), (second(n), vote(n, 1, 7))))
            ],
        },
        options={"prompt": "question", "answers": "answers[].text", "scores": "answers[].pm_score"},
    ),
    "helpsteer2": Shape(
        lambda n: two(
            n,
            lambda text, is_good: {
                "prompt": q(n), "response": text, "helpfulness": 4 if is_good else 1, "correctness": 3, "coherence": 3,
                "complexity": 2, "verbosity": 2,
            },
        ),
        whole=flat,
    ),
    "summaries-axes": Shape(
        lambda n: two(
            n,
            lambda text, is_good: {
                "info": {"id": f"t{n}", "post": q(n), "title": "t", "subreddit": "r"},
                "summary": {
                    "text": text, "policy": "p", "note": "n",
                    "axes": {"overall": 7 if is_good else 2, "accuracy": 5, "coverage": 4, "coherence": None},
                },
                "worker": "w", "batch": "b", "split": "test",
            },
        ),
        whole=flat,
    ),
    "nectar": Shape(
        lambda n: {
            "prompt": f"\n\nHuman: {q(n)}\n\nAssistant: ", "turns": 1, "num_responses": 2, "source": ["s"],
            "answers": [
                {"answer": first(n), "model": "m1", "rank": vote(n, 1.0, 2.0)},
                {"answer": second(n), "model": "m2", "rank": vote(n, 2.0, 1.0)},
            ],
            "good_natured": True,
        }
    ),
    "ids-in-ranking": Shape(
        lambda n: {
            "prompt": q(n), "responses": [{"id": "x", "text": first(n)}, {"id": "y", "text": second(n)}],
            "ranking": vote(n, ["x", "y"], ["y", "x"]),
        }
    ),
    "openassistant-trees": Shape(
        lambda n: {
            "message_tree_id": f"q{n}", "tree_state": "ready_for_export", "prompt": nested(tree(n), tree(n)[0])
        },
        after_first,
    ),
    "openassistant-messages": Shape(tree, after_first, whole=flat),
    "trl-kto": Shape(
        lambda n: two(n, lambda text, is_good: {"prompt": q(n), "completion": text, "label": is_good}), whole=flat
    ),
    "trl-kto-messages": Shape(
        lambda n: two(
            n,
            lambda text, is_good: {
                "prompt": [said("user", q(n))], "completion": [said("assistant", text)], "label": is_good
            },
        ),
        whole=flat,
    ),
    "kto-numbers": Shape(
        lambda n: two(n, lambda text, is_good: {"prompt": q(n), "completion": text, "label": int(is_good)}),
        whole=flat,
    ),
    "colossalchat-kto": Shape(
        lambda n: two(
            n,
            lambda text, is_good: {
                "prompt": turns(q(n), role="from"), "completion": {"from": "assistant", "content": text},
                "label": is_good,
            },
        ),
        whole=flat,
    ),
    "llamafactory-kto": Shape(
        lambda n: two(n, lambda text, is_good: {"messages": turns(q(n), text), "label": is_good}), whole=flat
    ),
    "kto-tag": Shape(
        lambda n: two(
            n,
            lambda text, is_good: {
                "conversations": turns(q(n), text, role="from", content="value", names=("human", "gpt")),
                "kto_tag": is_good,
            },
        ),
        whole=flat,
    ),
    "swift-kto": Shape(
        lambda n: two(
            n,
            lambda text, is_good: {
                "messages": [*system(n), *turns(q(n), text)], "label": "true" if is_good else "false"
            },
        ),
        with_system,
        whole=flat,
    ),
    "kto-alone": Shape(
        lambda n: {"prompt": q(n), "completion": first(n), "label": not n % 2},
        told=("unpaired 4", "KTO"),
    ),
    "kto-csv": Shape(
        lambda n: two(n, lambda text, is_good: {"prompt": q(n), "completion": text, "label": is_good}),
        name="raw.csv",
        whole=lambda rows: as_csv([row for some in rows for row in some]),
    ),
}  # fmt: skip
