"""Shapes with two answers and a vote, and the exports of annotation tools."""

from __future__ import annotations

from typing import Any

import orjson

from tests.data.shapes.shape import Shape, as_csv, first, q, second, second_round, turns, vote


def parts(n: int, answer: str) -> list[dict[str, Any]]:
    texts = (("user", q(n)), ("assistant", answer))
    return [
        {"role": role, "content": [{"type": "text", "text": text, "image": None, "mimeType": None}]}
        for role, text in texts
    ]


def arena(n: int, tie: str) -> dict[str, Any]:
    """Return a battle; that of the last row is a tie."""
    return {"id": f"i{n}", "model_a": "m1", "model_b": "m2", "winner": vote(n, "model_a", "model_b") if n < 3 else tie}


def task(n: int, **more: Any) -> dict[str, Any]:
    """Return a comparison as Label Studio exports it."""
    result = {
        "value": {"selected": vote(n, "left", "right")}, "id": "r", "from_name": "pw", "type": "pairwise",
        "to_name": "answer1,answer2", "origin": "manual",
    }  # fmt: skip
    annotation = {"id": 1, "completed_by": 1, "result": [result], "was_cancelled": False, "lead_time": 1.5}
    return {
        "id": n, "annotations": [annotation], "drafts": [], "predictions": [],
        "data": {"prompt": q(n), "answer1": first(n), "answer2": second(n)}, "meta": {}, "project": 1, **more,
    }  # fmt: skip


def short_task(n: int, comparison: Any) -> dict[str, Any]:
    """Return a comparison as Label Studio's short exports have it, CSV and JSON-MIN."""
    return {
        "id": n, "prompt": q(n), "answer1": first(n), "answer2": second(n), "annotator": 1, "annotation_id": n,
        "created_at": "2024-05-05T10:00:00Z", "updated_at": "2024-05-05T10:00:00Z", "lead_time": 1.5,
        "comparison": comparison,
    }  # fmt: skip


def order(n: int, one: str = "response-1", other: str = "response-2") -> list[str]:
    return [one, other] if n % 2 == 0 else [other, one]


VOTES = {
    "alpaca-farm": Shape(
        lambda n: {
            "instruction": q(n), "input": "", "output_1": first(n), "output_2": second(n), "preference": vote(n, 1, 2)
        }
    ),
    "alpaca-eval": Shape(
        lambda n: {
            "instruction": q(n), "output_1": first(n), "generator_1": "m1", "output_2": second(n), "generator_2": "m2",
            "annotator": "gpt", "preference": vote(n, 1.0, 1.98),
        }
    ),
    "shp": Shape(
        lambda n: {
            "post_id": f"p{n}", "domain": "d", "history": q(n), "human_ref_A": first(n), "human_ref_B": second(n),
            "labels": vote(n, 1, 0), "score_A": vote(n, 9, 2), "score_B": vote(n, 2, 9), "score_ratio": 4.5,
        }
    ),
    "arena-33k": Shape(
        lambda n: {
            **arena(n, "tie (bothbad)"), "judge": "j", "conversation_a": turns(q(n), first(n)),
            "conversation_b": turns(q(n), second(n)), "turn": 1, "language": "English",
        },
        lost={"tie": 1},
    ),
    "arena-140k": Shape(
        lambda n: {
            **arena(n, "both_bad"), "conversation_a": parts(n, first(n)), "conversation_b": parts(n, second(n)),
            "full_conversation": [{"user": parts(n, "")[0], "model_side_a": parts(n, first(n))[1]}],
        },
        lost={"tie": 1},
    ),
    "kaggle-arena": Shape(
        lambda n: {
            "id": n, "model_a": "m1", "model_b": "m2", "prompt": f'["Q first","{q(n)}"]',
            "response_a": f'["A first","{first(n)}"]', "response_b": f'["A first","{second(n)}"]',
            "winner_model_a": vote(n, 1, 0), "winner_model_b": vote(n, 0, 1), "winner_tie": 0,
        },
        second_round,
        name="train.csv",
        whole=as_csv,
    ),
    "mt-bench": Shape(
        lambda n: {
            "question_id": 80 + n, "model_a": "m1", "model_b": "m2", "winner": vote(n, "model_a", "model_b"),
            "judge": "expert_1", "turn": 1, "conversation_a": turns(q(n), first(n), "Q later", "A later 1"),
            "conversation_b": turns(q(n), second(n), "Q later", "A later 2"),
        }
    ),
    "helpsteer2-preference": Shape(
        lambda n: {
            "split": "train", "prompt": q(n), "response_1": first(n), "response_2": second(n),
            "preference_strength": vote(n, -2, 2), "preference_statement": "s", "preference_elaboration": "e",
        }
    ),
    "helpsteer3": Shape(
        lambda n: {
            "domain": "general", "language": "english", "context": turns("Q first", "A first", q(n)),
            "response1": first(n), "response2": second(n), "overall_preference": vote(n, -1, 3),
            "individual_preference": [{"score": vote(n, -1, 3), "reasoning": "r", "feedback1": "a", "feedback2": "b"}],
        },
        second_round,
    ),
    "pku-saferlhf": Shape(
        lambda n: {
            "prompt": q(n), "response_0": first(n), "response_1": second(n), "is_response_0_safe": True,
            "is_response_1_safe": False, "better_response_id": vote(n, 0, 1), "safer_response_id": 0,
        }
    ),
    "pku-saferlhf-by-safety": Shape(
        lambda n: {
            "prompt": q(n), "response_0": first(n), "response_1": second(n), "safer_response_id": vote(n, 0, 1)
        },
        options={
            "map": "prompt=prompt,first=response_0,second=response_1,vote=safer_response_id",
            "labels": "first=0,second=1",
        },
    ),
    "webgpt": Shape(
        lambda n: {
            "question": {"dataset": "eli5", "id": f"{n}", "full_text": q(n)},
            "quotes_0": {"title": ["t"], "extract": ["e"]}, "answer_0": first(n), "tokens_0": {"prefix": [1]},
            "score_0": vote(n, 0.5, -0.5), "quotes_1": {"title": ["t"], "extract": ["e"]}, "answer_1": second(n),
            "tokens_1": {"prefix": [1]}, "score_1": vote(n, -0.5, 0.5),
        }
    ),
    "summaries-comparisons": Shape(
        lambda n: {
            "info": {"id": f"t{n}", "post": q(n), "title": "t", "subreddit": "r", "site": None, "article": None},
            "summaries": [
                {"text": first(n), "policy": "p", "note": None}, {"text": second(n), "policy": "p", "note": None}
            ],
            "choice": vote(n, 0, 1), "worker": "w", "batch": "b", "split": "train", "extra": {"confidence": 5},
        }
    ),
    "auto-j": Shape(
        lambda n: {
            "scenario": "s", "label": vote(n, 0, 1), "prompt": q(n), "response 1": first(n), "response 2": second(n)
        }
    ),
    "pandalm": Shape(
        lambda n: {
            "idx": n, "motivation_app": "m", "cmp_key": "a_b", "instruction": q(n), "input": "", "response1": first(n),
            "response2": second(n), "annotator1": vote(n, 1, 2), "annotator2": vote(n, 1, 2), "annotator3": 0,
        }
    ),
    "judgebench": Shape(
        lambda n: {
            "pair_id": f"p{n}", "source": "mmlu", "question": q(n), "response_model": "m", "response_A": first(n),
            "response_B": second(n), "label": vote(n, "A>B", "B>A"),
        }
    ),
    "llmbar": Shape(
        lambda n: {"input": q(n), "output_1": first(n), "output_2": second(n), "label": vote(n, 1, 2)},
        options={"labels": "first=1,second=2"},
    ),
    "winner-letters": Shape(
        lambda n: {"prompt": q(n), "response_a": first(n), "response_b": second(n), "winner": vote(n, "A", "B")}
    ),
    "preference-letters": Shape(
        lambda n: {"question": q(n), "answer_a": first(n), "answer_b": second(n), "preference": vote(n, "A", "B")}
    ),
    "winner-of-models": Shape(
        lambda n: {
            "query": q(n), "sft_output": first(n), "dpo_output": second(n), "winner": vote(n, "sft", "dpo")
        },
        options={"map": "prompt=query,first=sft_output,second=dpo_output,vote=winner"},
    ),
    "unified-feedback": Shape(
        lambda n: {
            "conv_A": turns("Q first", "A first", q(n), first(n)), "conv_A_rating": vote(n, 5.0, 1.0), "num_turns": 2,
            "conv_B": turns("Q first", "A first", q(n), second(n)), "conv_B_rating": vote(n, 1.0, 5.0), "source": "s",
        },
        second_round,
    ),
    "prometheus": Shape(
        lambda n: {
            "instruction": f"###Task: judge {q(n)}", "output": "It is. [RESULT] A", "orig_instruction": q(n),
            "orig_response_A": first(n), "orig_response_B": second(n), "orig_preference": vote(n, "A", "B"),
        },
        options={
            "map": "prompt=orig_instruction,first=orig_response_A,second=orig_response_B,vote=orig_preference"
        },
    ),
    "judge-of-mt-bench": Shape(
        lambda n: {
            "question": q(n), "answer_a": first(n), "answer_b": second(n), "verdict": f"So: {vote(n, '[[A]]', '[[B]]')}"
        }
    ),
    "label-studio": Shape(task, name="export.json", whole=orjson.dumps),
    "label-studio-choices": Shape(
        lambda n: task(
            n,
            annotations=[
                {
                    "result": [
                        {
                            "value": {"choices": [vote(n, "Answer 1", "Answer 2")]}, "from_name": "better",
                            "type": "choices", "to_name": "prompt",
                        },
                        {"value": {"choices": ["polite"]}, "from_name": "tone", "type": "choices", "to_name": "prompt"},
                    ]
                }
            ],
        ),
        name="export.json",
        whole=orjson.dumps,
    ),
    "label-studio-other-names": Shape(
        lambda n: task(n, data={"prompt": q(n), "response_a": first(n), "response_b": second(n)}),
        told=("names_differ 4", "JSON-MIN"),
        name="export.json",
        whole=orjson.dumps,
    ),
    "label-studio-csv": Shape(
        lambda n: short_task(n, f'{{"selected": "{vote(n, "left", "right")}"}}'), name="export.csv", whole=as_csv
    ),
    "label-studio-csv-list": Shape(
        lambda n: short_task(n, f'[{{"selected": "{vote(n, "left", "right")}"}}]'), name="export.csv", whole=as_csv
    ),
    "label-studio-min": Shape(
        lambda n: short_task(n, [{"selected": vote(n, "left", "right")}]), name="export.json", whole=orjson.dumps
    ),
    "label-studio-min-word": Shape(
        lambda n: short_task(n, vote(n, "left", "right")), name="export.json", whole=orjson.dumps
    ),
    "argilla-ranking": Shape(
        lambda n: {
            "id": f"i{n}", "status": "completed", "_server_id": "s", "prompt": q(n), "response-1": first(n),
            "response-2": second(n), "ranking.responses": [order(n)], "ranking.responses.users": ["u"],
            "ranking.responses.status": ["submitted"], "ranking.suggestion": order(n + 1),
            "ranking.suggestion.score": None, "ranking.suggestion.agent": "m",
        }
    ),
    "argilla-ranking-suggested": Shape(
        lambda n: {
            "id": f"i{n}", "status": "pending", "instruction": q(n), "response1": first(n), "response2": second(n),
            "preference.responses": None, "preference.responses.users": None, "preference.responses.status": None,
            "preference.suggestion": order(n, "response1", "response2"),
        }
    ),
    "argilla-ranking-1": Shape(
        lambda n: {
            "prompt": q(n), "response1": first(n), "response2": second(n),
            "preference": [
                {
                    "user_id": "u", "status": "submitted",
                    "value": {"rank": vote(n, [1, 2], [2, 1]), "value": ["response1", "response2"]},
                }
            ],
            "preference-suggestion": None, "preference-suggestion-metadata": {}, "external_id": None, "metadata": "{}",
        }
    ),
    "argilla-rating": Shape(
        lambda n: {
            "id": f"i{n}", "status": "completed", "prompt": q(n), "response-1": first(n), "response-2": second(n),
            "rating-1.responses": [vote(n, 5, 2), vote(n, 4, 1)], "rating-1.responses.users": ["u", "v"],
            "rating-1.responses.status": ["submitted", "submitted"], "rating-1.suggestion": 3,
            "rating-2.responses": [vote(n, 2, 5), vote(n, 1, 4)], "rating-2.responses.users": ["u", "v"],
            "rating-2.responses.status": ["submitted", "submitted"], "rating-2.suggestion": 3,
        }
    ),
    "argilla-rating-1": Shape(
        lambda n: {
            "prompt": q(n), "response-1": first(n), "response-2": second(n),
            "rating-1": [{"user_id": "u", "value": vote(n, 5, 2), "status": "submitted"}],
            "rating-2": [{"user_id": "u", "value": vote(n, 2, 5), "status": "submitted"}],
            "rating-1-suggestion": None, "rating-2-suggestion": None,
        }
    ),
    "rating-columns": Shape(
        lambda n: {
            "prompt": q(n), "response_1": first(n), "response_2": second(n), "rating_1": vote(n, 5, 2),
            "rating_2": vote(n, 2, 5),
        }
    ),
    "argilla-records": Shape(
        lambda n: {
            "id": f"i{n}", "status": "completed", "metadata": {}, "vectors": {},
            "fields": {"prompt": q(n), "response-1": first(n), "response-2": second(n)},
            "suggestions": {}, "responses": {"ranking": [{"value": order(n), "user_id": "u"}]},
        },
        name="records.json",
        whole=orjson.dumps,
    ),
}  # fmt: skip
