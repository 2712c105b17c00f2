"""Importing the package and calling its functions changes no state of the caller's process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hubdpo import console

# libraries set up themselves when they are imported, so they are imported before the first look
SCRIPT = """
import csv, gc, logging, os, warnings
import datasets, datasketch, detect_secrets, huggingface_hub, httpx2, matplotlib.pyplot, peft, requests, torch
import transformers

def state():
    levels = {name: logging.getLogger(name).level for name in ("huggingface_hub", "datasets", "transformers", "httpx2")}
    return dict(os.environ), levels, list(warnings.filters), gc.isenabled(), csv.field_size_limit()

def call(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except hubdpo.errors.HubdpoError:
        pass
    assert state() == before, function

gc.disable()
before = state()
import hubdpo, hubdpo.cli.app, hubdpo.errors, hubdpo.demo.reader
assert state() == before, "import"
call(hubdpo.prepare, source="raw.jsonl", output_dir="data", test_size=0)
call(hubdpo.prepare, source="raw.csv", output_dir="table", test_size=0)
call(hubdpo.load_preferences, "data")
call(hubdpo.train, model_name_or_path="nowhere", dataset="data", output_dir="run")
call(hubdpo.evaluate, model="nowhere")
call(hubdpo.merge, adapter="nowhere", output_dir="merged")
call(hubdpo.push, folder="nowhere", repo="a/b", version="1.0.0")
call(hubdpo.verify, "alice/nothing-there@v1.0.0")
call(hubdpo.load_adapter, "alice/nothing-there")
"""
QUIET_SCRIPT = """
import importlib, logging, sys, warnings
import hubdpo, huggingface_hub.utils, transformers

bars = importlib.import_module("huggingface_hub.utils.tqdm").progress_bar_states
huggingface_hub.utils.disable_progress_bars("huggingface_hub.http_get")

def state():
    hook = transformers.utils.logging.set_tqdm_hook(None)
    levels = logging.getLogger("bitsandbytes").level, transformers.logging.get_verbosity()
    filters = [entry for entry in warnings.filters if entry[2] is FutureWarning]  # imports add others
    return dict(bars), hook, transformers.utils.logging.is_progress_bar_enabled(), levels, filters

base, data, run, repo = sys.argv[1:]
before = state()
hubdpo.train(model_name_or_path=base, dataset=data, output_dir=run, max_steps=2, save_steps=1, max_length=128)
hubdpo.push(folder=run, repo=repo, version="1.0.0")
hubdpo.evaluate(run, max_answers=2, max_new_tokens=4)
hubdpo.merge(run, run + "-merged", dtype="float32")
hubdpo.load_adapter(repo)
assert state() == before
"""
SET_BY_THE_COMMAND_LINE = (
    "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "HF_UPDATE_DOWNLOAD_COUNTS", "HF_HUB_VERBOSITY",
    "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM", "TRL_EXPERIMENTAL_SILENCE",
)  # fmt: skip


def test_a_call_changes_no_state_of_the_process(tmp_path: Path) -> None:
    row = '{"prompt": "p%d", "chosen": "good", "rejected": "bad"}\n'
    (tmp_path / "raw.jsonl").write_text("".join(row % i for i in range(20)))
    (tmp_path / "raw.csv").write_text("prompt,chosen,rejected\n" + "".join(f"p{i},good,bad\n" for i in range(20)))
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_THE_COMMAND_LINE}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_libraries_draw_no_bars_during_a_call(
    tiny_base_repo: str, dataset_dir: Path, tmp_path: Path, repo_id: str, fresh_hf_home: dict[str, str]
) -> None:
    environment = {name: value for name, value in fresh_hf_home.items() if name not in SET_BY_THE_COMMAND_LINE}
    arguments = [tiny_base_repo, str(dataset_dir), str(tmp_path / "run"), repo_id]
    done = subprocess.run(
        [sys.executable, "-c", QUIET_SCRIPT, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 1/2" in done.stderr
    for noise in ("%|", "it/s", "[transformers]", "Processing Files", "FutureWarning", "kernels"):
        assert noise not in done.stderr


def test_an_output_format_lasts_as_long_as_its_body() -> None:
    with pytest.raises(ValueError, match="x"), console.written_as(console.Format.json, errors_only=True):
        assert (console.output.format, console.output.errors_only) == (console.Format.json, True)
        raise ValueError("x")
    assert (console.output.format, console.output.errors_only) == (console.Format.human, False)
