"""The whole road: what was trained here is what a stranger gets from the Hub, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LOAD_ADAPTER = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import BitsAndBytesConfig
where, revision, ids = sys.argv[1], sys.argv[2] or None, json.loads(sys.argv[3])
quantised = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
)
model = AutoPeftModelForCausalLM.from_pretrained(
    where, revision=revision, quantization_config=quantised, dtype=torch.float32
)
print(json.dumps(model(input_ids=torch.tensor([ids])).logits.tolist()))
"""

LOAD_DATASET = """
import json, sys
from datasets import load_dataset
data = load_dataset(sys.argv[1], revision=sys.argv[2] or None)
print(json.dumps({split: rows.to_list() for split, rows in data.items()}))
"""

USE_PUBLIC_API = """
import sys, hubdpo
loaded = hubdpo.load_adapter(sys.argv[1], revision=sys.argv[2])
print(loaded.revision, loaded.model.peft_config["default"].revision, len(loaded.tokenizer))
"""


def in_new_process(code: str, *arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_released_adapter_gives_the_logits_of_the_run(
    run_dir: Path, repo_id: str, fresh_hf_home: dict[str, str]
) -> None:
    from hubdpo import push

    push(folder=run_dir, repo=repo_id, version="0.1.0")
    ids = json.dumps(list(range(40)))
    released = json.loads(in_new_process(LOAD_ADAPTER, repo_id, "v0.1.0", ids, env=fresh_hf_home))
    local = json.loads(in_new_process(LOAD_ADAPTER, str(run_dir), "", ids, env=dict(os.environ)))
    assert released == local


def test_the_released_dataset_equals_the_folder(dataset_dir: Path, repo_id: str, fresh_hf_home: dict[str, str]) -> None:
    from hubdpo import push

    push(folder=dataset_dir, repo=repo_id, version="0.1.0")
    released = in_new_process(LOAD_DATASET, repo_id, "v0.1.0", env=fresh_hf_home)
    local = in_new_process(LOAD_DATASET, str(dataset_dir), "", env=fresh_hf_home)
    assert json.loads(released) == json.loads(local)


def test_load_adapter_pins_the_release_and_its_base(run_dir: Path, repo_id: str, fresh_hf_home: dict[str, str]) -> None:
    from hubdpo import push
    from hubdpo.artefacts.manifests.manifest import RUN_FILE
    from hubdpo.artefacts.manifests.run import RunManifest

    release = push(folder=run_dir, repo=repo_id, version="0.1.0")
    revision, base_revision, _ = in_new_process(USE_PUBLIC_API, repo_id, "v0.1.0", env=fresh_hf_home).split()
    assert revision == release.commit
    assert base_revision == RunManifest.read(run_dir / RUN_FILE).base.revision


def test_the_demo_improves_on_its_base(tmp_path: Path) -> None:
    code = "from hubdpo.cli.app import main; main()"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OMP_", "MKL_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "-o", str(tmp_path / "demo"), "--json"],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["adapter_accuracy"] > found["base_accuracy"]
    assert found["adapter_accuracy"] >= 0.9
    # more threads than one make two small layers a hundred times as slow on a busy machine
    assert json.loads((tmp_path / "demo" / "run" / "probes.json").read_text())["environment"]["threads"] == "1"
