"""What the commands of the pages find when no command before them made it: files, folders and repos of a Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

USER, TOKEN = "USER", "hf_of_the_docs"
BASES = ("Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2-0.5B-Instruct", "HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-2-7b-hf")
WITHOUT_TEMPLATE = BASES[2:]
DATA, ADAPTER = f"{USER}/preferences", f"{USER}/qwen2-7b-dpo"
OTHER_ADAPTERS = (f"{USER}/qwen2-7b-sft", f"{USER}/sft-adapter")
PEFT_FILES = ("adapter_model.safetensors", "adapter_config.json")
OWNERS = ("Qwen", "HuggingFaceTB", "meta-llama", "openbmb", "lvwerra", "trl-lib", "team")
SOURCES = {
    "openbmb/UltraFeedback": {"train.jsonl": "ultra"},
    "lvwerra/stack-exchange-paired": {"data/rl/train.jsonl": "stack"},
    "trl-lib/hh-rlhf-helpful-base": {"data/train.jsonl": "talks", "data/test.jsonl": "later-talks"},
}
"""Datasets of the Hub, with the raw file that each of their files is."""
ACCOUNTS = {"tokens": [f"{USER}:{TOKEN}:write"], "orgs": [f"{owner}:{USER}" for owner in OWNERS]}
RUN = f"""\
model-name-or-path: {BASES[0]}
dataset: {DATA}@v1.0.0
output-dir: run
max-steps: 2
"""
THEIRS = f"""\
model_name_or_path: {BASES[0]}
stage: dpo
finetuning_type: lora
lora_rank: 8
dataset: dpo_en_demo
template: qwen
pref_beta: 0.1
max_steps: 2
"""
"""A config file of LLaMA-Factory."""
OWN_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def make_files(folder: Path) -> None:
    """Write the raw files, in the shapes that the pages describe."""
    turns = [
        {
            "prompt": [{"role": "user", "content": f"Question {i}: what is {i} plus one?"}],
            "chosen": [{"role": "assistant", "content": f"It is {i + 1}, gladly."}],
            "rejected": [{"role": "assistant", "content": f"No idea about {i}."}],
        }
        for i in range(60)
    ]
    asked = [
        {"question": f"What is {i} plus one?", "good_answer": f"It is {i + 1}.", "bad_answer": f"No idea about {i}."}
        for i in range(60)
    ]
    scored = [
        {
            "instruction": row["question"],
            "completions": [
                {"response": f"{row['good_answer']} {note}", "overall_score": score}
                for note, score in (("Gladly.", 9.0), ("I think.", 7.0), ("Perhaps.", 4.0), ("Or not.", 2.0))
            ],
            "trust": 0.5 + i % 2,
        }
        for i, row in enumerate(asked)
    ]
    voted = [
        {
            "qid": i, "question": row["question"], "date": "2015/01/02", "metadata": [f"https://example.com/{i}"],
            "response_j": row["good_answer"], "response_k": row["bad_answer"],
        }
        for i, row in enumerate(asked)
    ]  # fmt: skip
    talks = [
        {
            **row,
            "prompt": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi!"}, *row["prompt"]],
        }
        for row in turns
    ]
    files = {
        "pairs": turns, "rows": asked, "ultra": scored, "stack": voted, "talks": talks[:40], "later-talks": talks[40:],
    }  # fmt: skip
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "run.yaml").write_text(RUN, encoding="utf-8")
    (folder / "theirs.yaml").write_text(THEIRS, encoding="utf-8")
    (folder / "own.jinja").write_text(OWN_TEMPLATE, encoding="utf-8")


def make_folders_and_repos(folder: Path) -> None:
    """Make dataset, run, merged model and sweep in `folder`, and their releases on the Hub of this process."""
    from huggingface_hub import HfApi

    import hubdpo
    from hubdpo.demo.tiny_base import make_tiny_base

    api, base = HfApi(), make_tiny_base(folder / "tiny-base")
    for name in BASES:
        if name in WITHOUT_TEMPLATE:
            (base / "chat_template.jinja").unlink(missing_ok=True)
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=str(base))
    shutil.rmtree(base)
    hubdpo.prepare([str(folder / "pairs.jsonl")], folder / "data", license="mit", test_size=0.2)
    for name in (DATA, f"{USER}/pairs", f"{USER}/more", f"{USER}/hard"):
        hubdpo.push(folder / "data", name, version="1.0.0", check="hashes")
    for name, files in SOURCES.items():
        api.create_repo(name, repo_type="dataset")
        for path, file in files.items():
            raw = folder / f"{file}.jsonl"
            api.upload_file(repo_id=name, repo_type="dataset", path_in_repo=path, path_or_fileobj=str(raw))
    few = {"model_name_or_path": BASES[0], "dataset": f"{DATA}@v1.0.0", "max_steps": 2, "max_length": 256}
    for version, rate in (("1.0.0", 1e-2), ("1.1.0", 2e-2)):
        shutil.rmtree(folder / "run", ignore_errors=True)
        hubdpo.train(output_dir=folder / "run", learning_rate=rate, **few)
        for name in (ADAPTER, *OTHER_ADAPTERS) if version == "1.0.0" else (ADAPTER,):
            hubdpo.push(folder / "run", name, version=version, check="hashes")
            (folder / "run" / "release.json").unlink()
    for name in ("run-a", "run-b"):
        shutil.copytree(folder / "run", folder / name)
    for name in ("DIR", "out"):  # adapters of another tool
        (folder / name).mkdir()
        for file in PEFT_FILES:
            shutil.copy(folder / "run" / file, folder / name / file)
    hubdpo.merge(folder / "run", folder / "merged", dtype="float32")
    hubdpo.sweep(output_dir=folder / "sweep", beta=[0.1, 0.2], **few)
    (folder / "data" / "release.json").unlink()
