"""The usual way to prepare preference data, to measure beside hubdpo: load_dataset, a map over rows, to_parquet.

It converts only: no checks, no duplicates found, no split by prompt, no card. Prints the seconds of work, no imports.
Usage: usual_way.py SHAPE IN OUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset

Row = dict[str, Any]


def chats() -> Any:
    from trl import extract_prompt  # what DPOTrainer's users call

    return extract_prompt


def transcripts() -> Any:
    def split(row: Row) -> Row:
        same = 0
        for one, other in zip(row["chosen"], row["rejected"], strict=False):  # as published scripts for hh-rlhf do
            if one != other:
                break
            same += 1
        marker = "\n\nAssistant: "
        border = row["chosen"].rfind(marker, 0, same)
        messages = []
        for turn in row["chosen"][:border].split("\n\n")[1:]:
            role, _, content = turn.partition(": ")
            messages.append({"role": "user" if role == "Human" else "assistant", "content": content})
        chosen, rejected = (row[side][border + len(marker) :] for side in ("chosen", "rejected"))
        return {"prompt": messages, **_answers(chosen, rejected)}

    return split


def question_answers() -> Any:
    def name(row: Row) -> Row:
        prompt = [{"role": "user", "content": row["question"]}]
        return {"prompt": prompt, **_answers(row["response_j"], row["response_k"])}

    return name


def _answers(chosen: str, rejected: str) -> Row:
    return {
        "chosen": [{"role": "assistant", "content": chosen}], "rejected": [{"role": "assistant", "content": rejected}]
    }  # fmt: skip


MAPS = {"chats": chats, "transcripts": transcripts, "question-answers": question_answers}


def main(shape: str, source: str, folder: str) -> None:
    convert = MAPS[shape]()
    began = time.perf_counter()
    data = load_dataset("json", data_files=source, split="train", cache_dir=str(Path(folder) / "cache"))
    columns = [name for name in data.column_names if name not in ("prompt", "chosen", "rejected")]
    data.map(convert, remove_columns=columns).to_parquet(str(Path(folder) / "train.parquet"))
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
