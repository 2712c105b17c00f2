"""The usual way to prepare preference data, to measure beside hubdpo: load_dataset, a map over rows, to_parquet.

It converts only: no checks, no duplicates found, no split by prompt, no card. Usage: usual_way.py SHAPE IN OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset

Row = dict[str, Any]


def chats(row: Row) -> Row:
    return {"prompt": row["chosen"][:-1], "chosen": row["chosen"][-1:], "rejected": row["rejected"][-1:]}


def transcripts(row: Row) -> Row:
    prompt, chosen = row["chosen"].rsplit("\n\nAssistant: ", 1)
    messages = []
    for turn in prompt.split("\n\n")[1:]:
        role, _, content = turn.partition(": ")
        messages.append({"role": "user" if role == "Human" else "assistant", "content": content})
    rejected = row["rejected"].rsplit("\n\nAssistant: ", 1)[1]
    return {"prompt": messages, **_answers(chosen, rejected)}


def question_answers(row: Row) -> Row:
    prompt = [{"role": "user", "content": row["question"]}]
    return {"prompt": prompt, **_answers(row["response_j"], row["response_k"])}


def _answers(chosen: str, rejected: str) -> Row:
    return {
        "chosen": [{"role": "assistant", "content": chosen}], "rejected": [{"role": "assistant", "content": rejected}]
    }  # fmt: skip


MAPS = {"chats": chats, "transcripts": transcripts, "question-answers": question_answers}


def main(shape: str, source: str, folder: str) -> None:
    data = load_dataset("json", data_files=source, split="train", cache_dir=str(Path(folder) / "cache"))
    columns = [name for name in data.column_names if name not in ("prompt", "chosen", "rejected")]
    data.map(MAPS[shape], remove_columns=columns).to_parquet(str(Path(folder) / "train.parquet"))


if __name__ == "__main__":
    main(*sys.argv[1:])
