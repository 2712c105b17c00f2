"""Shapes that name the better answer: two columns, two conversations, or a conversation and another answer."""

from __future__ import annotations

import orjson

from tests.data.shapes.shape import Shape, as_csv, bad, good, q, said, second_round, system, turns, with_system

HUMAN = {"role": "from", "content": "value", "names": ("human", "gpt")}


def chatml(*messages: tuple[str, str]) -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)


def whole(n: int, answer: str) -> list[dict[str, str]]:
    return turns(q(n), answer)


PAIRS = {
    "trl": Shape(lambda n: {"prompt": q(n), "chosen": good(n), "rejected": bad(n)}),
    "trl-messages": Shape(
        lambda n: {
            "prompt": [*system(n), said("user", q(n))],
            "chosen": [said("assistant", good(n))],
            "rejected": [said("assistant", bad(n))],
        },
        with_system,
    ),
    "reward-bench": Shape(
        lambda n: {
            "prompt": q(n), "chosen": good(n), "chosen_model": "m1", "rejected": bad(n), "rejected_model": "m2",
            "subset": "easy", "id": n,
        }
    ),
    "ultrafeedback-binarized": Shape(
        lambda n: {
            "prompt": q(n), "prompt_id": f"p{n}", "chosen": whole(n, good(n)), "rejected": whole(n, bad(n)),
            "messages": whole(n, good(n)), "score_chosen": 8.0, "score_rejected": 4.0,
        }
    ),
    "argilla-cleaned": Shape(
        lambda n: {
            "source": "s", "prompt": q(n), "chosen": whole(n, good(n)), "chosen-rating": 5.0, "chosen-model": "m1",
            "rejected": whole(n, bad(n)), "rejected-rating": 2.0, "rejected-model": "m2",
        }
    ),
    "snorkel": Shape(
        lambda n: {
            "prompt_id": f"p{n}", "prompt": q(n), "chosen": whole(n, good(n)), "rejected": whole(n, bad(n)),
            "all_generated_responses": [good(n), bad(n)], "all_rm_scores": [0.9, 0.1],
        }
    ),
    "orpo-mix": Shape(
        lambda n: {
            "source": "s", "chosen": whole(n, good(n)), "rejected": whole(n, bad(n)), "prompt": q(n), "question": q(n)
        }
    ),
    "tulu": Shape(
        lambda n: {
            "id": n, "source": "s", "prompt": q(n), "chosen": [*system(n), *whole(n, good(n))],
            "rejected": [*system(n), *whole(n, bad(n))], "chosen_rating": 5, "rejected_rating": 1,
            "chosen_model": "m1", "rejected_model": "m2",
        },
        with_system,
    ),
    "skywork": Shape(lambda n: {"chosen": whole(n, good(n)), "rejected": whole(n, bad(n)), "source": "s"}),
    "rlhflow": Shape(
        lambda n: {
            "rejected": whole(n, bad(n)), "rejected_score": 1.0, "chosen": whole(n, good(n)), "chosen_score": 4.0
        }
    ),
    "zhihu": Shape(lambda n: {"prompt": q(n), "chosen": good(n), "rejected": bad(n)}),
    "hh-rlhf": Shape(
        lambda n: {
            side: f"\n\nHuman: Q first\n\nAssistant: A first\n\nHuman: {q(n)}\n\nAssistant: {text}"
            for side, text in (("chosen", good(n)), ("rejected", bad(n)))
        },
        second_round,
    ),
    "dahoas": Shape(
        lambda n: {
            "prompt": f"\n\nHuman: Q first\n\nAssistant: A first\n\nHuman: {q(n)}\n\nAssistant:",
            "response": f" {good(n)}", "chosen": f" {good(n)}", "rejected": f" {bad(n)}",
        },
        second_round,
    ),
    "chatml": Shape(
        lambda n: {
            "prompt": chatml(("system", f"SYS {n}"), ("user", q(n))) + "<|im_start|>assistant\n",
            "chosen": f"{good(n)}<|im_end|>\n", "rejected": f"{bad(n)}<|im_end|>\n",
        },
        with_system,
    ),
    "intel-orca": Shape(
        lambda n: {"system": f"SYS {n}", "question": q(n), "chosen": good(n), "rejected": bad(n)}, with_system
    ),
    "distilabel-orca": Shape(
        lambda n: {
            "system": f"SYS {n}", "input": q(n), "chosen": good(n), "rejected": bad(n),
            "generations": [good(n), bad(n)], "order": ["chosen", "rejected"], "labelling_model": "m",
            "rating": [9.0, 5.0], "rationale": "r", "status": "unchanged", "original_chosen": good(n),
            "original_rejected": bad(n), "chosen_score": 9.0, "in_gsm8k_train": False,
        },
        with_system,
    ),
    "truthy": Shape(
        lambda n: {
            "id": n, "source": "s", "system": f"SYS {n}", "prompt": q(n), "chosen": good(n), "rejected": bad(n)
        },
        with_system,
    ),
    "stack-exchange-paired": Shape(
        lambda n: {"qid": n, "question": q(n), "date": "d", "response_j": good(n), "response_k": bad(n)}
    ),
    "instruction-chosen-response": Shape(
        lambda n: {"instruction": q(n), "chosen_response": good(n), "rejected_response": bad(n)}
    ),
    "axolotl-default": Shape(
        lambda n: {
            "system": f"SYS {n}", "instruction": q(n), "chosen_response": good(n), "rejected_response": bad(n)
        },
        with_system,
    ),
    "axolotl-messages": Shape(
        lambda n: {
            "messages": [*system(n), said("user", q(n))], "chosen": said("assistant", good(n)),
            "rejected": said("assistant", bad(n)),
        },
        with_system,
    ),
    "openai": Shape(
        lambda n: {
            "input": {"messages": turns(q(n)), "tools": [], "parallel_tool_calls": True},
            "preferred_output": [said("assistant", good(n))],
            "non_preferred_output": [said("assistant", bad(n))],
        }
    ),
    "alpaca": Shape(lambda n: {"instruction": q(n), "input": "", "chosen": good(n), "rejected": bad(n)}),
    "llamafactory-output": Shape(lambda n: {"instruction": q(n), "input": "", "output": [good(n), bad(n)]}),
    "llamafactory-sharegpt": Shape(
        lambda n: {
            "conversations": turns("Q first", "A first", q(n), **HUMAN),
            "chosen": {"from": "gpt", "value": good(n)}, "rejected": {"from": "gpt", "value": bad(n)},
        },
        second_round,
    ),
    "llamafactory-v1": Shape(
        lambda n: {
            name: [
                {"role": role, "content": [{"type": "text", "value": text}], "loss_weight": weight}
                for role, text, weight in (("system", f"SYS {n}", 0.0), ("user", q(n), 0.0), ("assistant", answer, 1.0))
            ]
            for name, answer in (("chosen_messages", good(n)), ("rejected_messages", bad(n)))
        },
        with_system,
    ),
    "swift-rejected-response": Shape(
        lambda n: {"messages": turns("Q first", "A first", q(n), good(n)), "rejected_response": bad(n)}, second_round
    ),
    "swift-rejected-messages": Shape(
        lambda n: {
            "messages": [*system(n), *whole(n, good(n))], "rejected_messages": [*system(n), *whole(n, bad(n))]
        },
        with_system,
    ),
    "swift-query": Shape(
        lambda n: {
            "system": f"SYS {n}", "query": q(n), "response": good(n), "rejected_response": bad(n), "history": []
        },
        with_system,
    ),
    "colossalchat": Shape(
        lambda n: {
            "context": turns("Q first", "A first", q(n), role="from", names=("human", "assistant")),
            "chosen": {"from": "assistant", "content": good(n)}, "rejected": {"from": "assistant", "content": bad(n)},
        },
        second_round,
    ),
    "hh-rlhf-cn": Shape(
        lambda n: {
            "context": turns("Q first", "A first", q(n), content="text", names=("human", "assistant")),
            "chosen": {"role": "assistant", "text": good(n)}, "rejected": {"role": "assistant", "text": bad(n)},
        },
        second_round,
    ),
    "ultrainteract": Shape(
        lambda n: {
            "task": "t", "dataset": "d", "id": f"{n}", "parent_id": "0",
            "trajectory": turns("Q first", "A first", q(n), role="from", content="value"),
            "chosen": good(n), "rejected": bad(n),
        },
        second_round,
    ),
    "lmflow-paired-conversation": Shape(
        lambda n: {
            side: {"conversation_id": n, "system": f"SYS {n}", "tools": [], "messages": whole(n, text)}
            for side, text in (("chosen", good(n)), ("rejected", bad(n)))
        },
        with_system,
        name="raw.json",
        whole=lambda rows: orjson.dumps({"type": "paired_conversation", "instances": rows}),
    ),
    "lmflow-paired-text": Shape(
        lambda n: {"prompt": q(n), "chosen": good(n), "rejected": bad(n)},
        name="raw.json",
        whole=lambda rows: orjson.dumps({"type": "paired_text_to_text", "instances": rows}),
    ),
    "step-dpo": Shape(
        lambda n: {
            "dataset": "d", "prompt": q(n), "prefix": f"Answer: {q(n)}", "initial_reason_steps": "Step 1: a\nStep 2:",
            "chosen": f" {good(n)}", "rejected": f" {bad(n)}", "full_chosen": f" {good(n)}\nStep 3: done",
            "full_rejected": f" {bad(n)}\nStep 3: failed", "answer": "7",
        },
        lambda n: (
            [("user", q(n))], [("assistant", f"Step 1: a\nStep 2: {good(n)}\nStep 3: done")],
            [("assistant", f"Step 1: a\nStep 2: {bad(n)}\nStep 3: failed")],
        ),
    ),
    "step-dpo-whole": Shape(
        lambda n: {
            "prompt": q(n), "initial_reason_steps": "Step 1: a\n", "chosen": good(n), "rejected": bad(n),
            "full_chosen": f"Step 1: a\n{good(n)}", "full_rejected": f"Step 1: a\n{bad(n)}",
        },
        lambda n: (
            [("user", q(n))], [("assistant", f"Step 1: a\n{good(n)}")], [("assistant", f"Step 1: a\n{bad(n)}")]
        ),
    ),
    "messages-in-csv": Shape(
        lambda n: {
            "prompt": str([*system(n), said("user", q(n))]),
            "chosen": orjson.dumps([said("assistant", good(n))]).decode(),
            "rejected": str([said("assistant", bad(n))]),
        },
        with_system,
        name="raw.csv",
        whole=as_csv,
    ),
    "axolotl-icr": Shape(
        lambda n: {"system": f"SYS {n}", "input": q(n), "chosen": good(n), "rejected": bad(n)}, with_system
    ),
    "torchtune": Shape(
        lambda n: {"chosen_conversations": whole(n, good(n)), "rejected_conversations": whole(n, bad(n))}
    ),
    "medicalgpt": Shape(
        lambda n: {
            "system": f"SYS {n}", "history": [["Q first", "A first"]], "question": q(n), "response_chosen": good(n),
            "response_rejected": bad(n),
        },
        lambda n: (with_system(n)[0][:1] + second_round(n)[0], *second_round(n)[1:]),
    ),
    "answers-as-objects": Shape(
        lambda n: {
            "prompt": q(n), "chosen": {"text": good(n), "model": "m1"}, "rejected": {"text": bad(n), "model": "m2"}
        }
    ),
    "conversation-and-responses": Shape(
        lambda n: {"conversation": turns(q(n)), "chosen_response": good(n), "rejected_response": bad(n)}
    ),
    "messages-and-rejected": Shape(
        lambda n: {"messages": [*system(n), *whole(n, good(n))], "rejected": bad(n)}, with_system
    ),
    "reward-bench-2": Shape(
        lambda n: {
            "id": f"{n}", "prompt": q(n), "chosen": [good(n)], "rejected": [f"{bad(n)} {i}" for i in range(3)],
            "num_correct": 1, "total_completions": 4, "models": ["m"], "subset": "s",
        },
        lambda n: [([("user", q(n))], [("assistant", good(n))], [("assistant", f"{bad(n)} {i}")]) for i in range(3)],
        chosen={"pairs": "all"},
    ),
    "cvalues": Shape(
        lambda n: {"prompt": q(n), "pos_resp": good(n), "neg_resp": bad(n), "pos_type": "a", "neg_type": "b"},
        options={"map": "prompt=prompt,chosen=pos_resp,rejected=neg_resp"},
    ),
    "preferred-other": Shape(
        lambda n: {"prompt": q(n), "preferred": good(n), "other": bad(n)},
        options={"map": "prompt=prompt,chosen=preferred,rejected=other"},
    ),
    "request": Shape(
        lambda n: {"request": q(n), "chosen": good(n), "rejected": bad(n)},
        options={"map": "prompt=request,chosen=chosen,rejected=rejected"},
    ),
    "gpt4-llm-comparison": Shape(
        lambda n: {"user_input": q(n), "completion_a": good(n), "completion_b": bad(n)},
        options={"map": "prompt=user_input,chosen=completion_a,rejected=completion_b"},
        asked="hubdpo prepare --describe",
    ),
    "rm-bench": Shape(
        lambda n: {
            "id": n, "prompt": q(n), "chosen": [good(n), f"{good(n)} long", f"{good(n)} list"],
            "rejected": [bad(n), f"{bad(n)} long", f"{bad(n)} list"], "domain": "chat",
        },
        lambda n: [
            ([("user", q(n))], [("assistant", good(n) + more)], [("assistant", bad(n) + more)])
            for more in ("", " long", " list")
        ],
    ),
    "images": Shape(
        lambda n: {"prompt": q(n), "chosen": good(n), "rejected": bad(n), "images": ["a.png"]},
        told=("images", "text only"),
    ),
    "rlaif-v": Shape(
        lambda n: {"question": q(n), "chosen": good(n), "rejected": bad(n), "image": {"path": "a.jpg", "bytes": None}},
        told=("images", "text only"),
    ),
    "image-parts": Shape(
        lambda n: {
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": q(n)}]}],
            "chosen": good(n), "rejected": bad(n),
        },
        told=("images", "text only"),
    ),
    "inverted-scores": Shape(
        lambda n: {"prompt": q(n), "chosen": good(n), "rejected": bad(n), "score_chosen": 1, "score_rejected": 2},
        told=("inverted 4",),
    ),
}  # fmt: skip
