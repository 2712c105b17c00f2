"""Comparing what somebody else made takes bounded time and memory, or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from hubdpo.errors import HubdpoError
from hubdpo.release.diff.rows import compare_rows
from hubdpo.release.diff.weights import compare_weights

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"alpha_pattern": {"(([a-z._0-9]+)+)+!": 3}}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 3}}, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern"),
        ({"lora_alpha": [1]}, "lora_alpha"),
        ({"lora_alpha": 10**30}, "lora_alpha"),
        ({"peft_type": ["LORA"]}, "peft_type"),
        ({"peft_type": "LOHA"}, "plain LoRA"),
    ],
)
def test_an_adapter_config_that_cannot_be_is_a_line(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    draw = np.random.default_rng(0)
    folders = []
    for name in "ab":
        (folder := tmp_path / name).mkdir()
        shapes = {f"{MODULE}.lora_A.weight": (4, 24), f"{MODULE}.lora_B.weight": (40, 4)}
        save_file(
            {key: draw.normal(size=shape).astype("float32") for key, shape in shapes.items()},
            folder / "adapter_model.safetensors",
        )
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 16} | fields))
        folders.append(folder)
    with pytest.raises(HubdpoError) as caught:
        compare_weights(*folders)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_parquet_without_pairs_or_that_unpacks_without_end_is_a_line(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    columns = ("prompt", "chosen", "rejected")

    def messages(text: str, count: int) -> pa.Table:
        return pa.table({name: [[{"role": "user", "content": text}]] * count for name in columns})

    pq.write_table(messages("a", 2), good)
    assert compare_rows([good], [good]).pairs_kept == 1
    other, numbers, broken, bomb = (tmp_path / f"{name}.parquet" for name in ("other", "numbers", "broken", "bomb"))
    pq.write_table(pa.table({"x": [1]}), other)
    pq.write_table(pa.table({name: [1, 2] for name in columns}), numbers)
    broken.write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    pq.write_table(messages("x" * 1_000, 200_000), bomb, compression="zstd")
    for path, says in ((other, "of messages"), (numbers, "of messages"), (broken, "is not a Parquet"), (bomb, "")):
        with pytest.raises(HubdpoError) as caught:
            compare_rows([good], [path])
        assert says in caught.value.message and path.name in caught.value.message
