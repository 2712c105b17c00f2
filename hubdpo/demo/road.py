"""Run prepare, train, evaluate and push on one machine: an embedded Hub, a tiny random Qwen2 and a small dataset."""

from __future__ import annotations

import importlib.resources
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from hubdpo import console
from hubdpo.errors import ConfigError, HubdpoError
from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages

USER, TOKEN = "demo", "hf_demo_token"
BASE, DATA, ADAPTER = f"{USER}/tiny-qwen2", f"{USER}/preferences", f"{USER}/tiny-qwen2-dpo"
TAG = "v0.1.0"
MARKER = ".hubdpo-demo"


def run(folder: Path) -> None:
    """Run the demo in `folder`, replacing the files of an earlier demo. It needs no network and no account.

    It sets environment variables, because it is a process of its own. Raise ConfigError when the folder holds other
    files.
    """
    started = time.monotonic()
    _empty_folder(folder)
    with LoopbackHub(folder / "hub", tokens=[f"{USER}:{TOKEN}:write"], pages=HubPages()) as hub:
        # torch and the Hugging Face libraries read these when they are imported, which no line above has done
        os.environ.update(
            HF_ENDPOINT=hub.endpoint,
            HF_HOME=str(folder.resolve() / "hf-home"),
            HF_TOKEN=TOKEN,
            HF_HUB_DISABLE_XET="1",
            MPLCONFIGDIR=str(folder.resolve() / "matplotlib"),  # so that nothing is left in the home folder
        )
        # threads would wait for each other over two small layers, most of the time on a busy machine
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        _walk(folder, hub.endpoint)
    console.info("", f"The whole road took {time.monotonic() - started:.0f} s.")


def _walk(folder: Path, endpoint: str) -> None:
    from hubdpo.data.prepare.prepare import prepare
    from hubdpo.evaluation.evaluate import evaluate
    from hubdpo.release.push import push
    from hubdpo.training.start import train

    _heading(1, f"a Hub of our own at {endpoint}, with a tiny random Qwen2 on it")
    _publish_base(folder)

    _heading(2, "prepare: raw rows in, a dataset folder out, every dropped row counted")
    raw = importlib.resources.files("hubdpo.demo") / "data" / "preferences.jsonl"
    with importlib.resources.as_file(raw) as source:
        prepare(
            source=[str(source)], output_dir=folder / "data", name="Demo preferences", license="apache-2.0",
            language=["en", "zh"], test_size=0.2,
        )  # fmt: skip

    _heading(3, "push the dataset: one tag, downloaded again and verified")
    data = push(folder=folder / "data", repo=DATA, version=TAG)

    _heading(4, "train: NF4 base, LoRA, DPO on the CPU")
    train(
        model_name_or_path=BASE, dataset=f"{DATA}@{TAG}", output_dir=folder / "run", max_steps=24, learning_rate=2e-3,
        max_length=192, per_device_train_batch_size=8, gradient_accumulation_steps=1, eval_steps=6, save_steps=12,
        logging_steps=2,
    )  # fmt: skip
    evaluate(model=folder / "run", max_answers=8, max_new_tokens=32)

    _heading(5, "push the adapter with its card")
    adapter = push(folder=folder / "run", repo=ADAPTER, version=TAG)

    _heading(6, "load it back from the Hub in a new process, and compare it with its base")
    scores = _compare_in_new_process(folder)
    console.table(
        ["on the held-out pairs", "base", "adapter"],
        [
            ["ranks the chosen answer higher", f"{scores['base_accuracy']:.1%}", f"{scores['adapter_accuracy']:.1%}"],
            ["mean margin, nats per token", f"{scores['base_margin']:+.3f}", f"{scores['adapter_margin']:+.3f}"],
        ],
    )
    _say_how_to_go_on(folder, data.url, adapter.url, scores)


def _empty_folder(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ConfigError(f"`{folder}` holds files that are not from a demo", hint="hubdpo demo -o another-folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def _publish_base(folder: Path) -> None:
    from huggingface_hub import HfApi

    from hubdpo.demo.tiny_base import make_tiny_base

    base = make_tiny_base(folder / "base")
    api = HfApi()
    api.create_repo(BASE)
    api.upload_folder(repo_id=BASE, folder_path=str(base), commit_message="A tiny random Qwen2")
    console.info(f"base model: {BASE}")


def _compare_in_new_process(folder: Path) -> dict[str, float]:
    """Score the release in a process with an empty cache, so that all its files come from the Hub."""
    home = folder.resolve() / "hf-home-reader"
    command = [sys.executable, "-m", "hubdpo.demo.reader", f"{ADAPTER}@{TAG}", f"{DATA}@{TAG}"]
    done = subprocess.run(command, env={**os.environ, "HF_HOME": str(home)}, capture_output=True, text=True)
    if done.returncode != 0:
        console.bug(done.stderr)
        raise HubdpoError("the release could not be loaded back, for the reason above")
    scores: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return scores


def _heading(number: int, title: str) -> None:
    console.info("", f"── {number}. {title}")


def _say_how_to_go_on(folder: Path, data_url: str, adapter_url: str, scores: dict[str, float]) -> None:
    hubdpo = _program()
    port = urlsplit(data_url).port  # the Hub stops with the demo; on the same port, its links open again
    console.info(
        "", f"dataset   {data_url}", f"adapter   {adapter_url}", f"card      {folder / 'run' / 'README.md'}", "",
        "Look around:",
        f"  {hubdpo} serve-hub {folder / 'hub'} --port {port}     (this Hub again: the links above open in a browser)",
        f"  {hubdpo} view {folder / 'data'}     (the pairs side by side)",
        f"  {hubdpo} view {folder / 'run'} --dataset {folder / 'data'}     (how it trained)", "",
        "The same on a GPU, with your data and your account:",
        f"  {hubdpo} prepare pairs.jsonl -o data",
        f"  {hubdpo} train --model-name-or-path Qwen/Qwen2-7B-Instruct --dataset data -o run",
        f"  {hubdpo} push run USER/qwen2-7b-dpo --version 0.1.0",
    )  # fmt: skip
    console.result(
        f"demo done: held-out accuracy {scores['base_accuracy']:.1%} with the base, "
        f"{scores['adapter_accuracy']:.1%} with the adapter",
        {"dataset": data_url, "adapter": adapter_url, **scores},
    )


def _program() -> str:
    """Return how the user's shell starts this hubdpo: by its path, where the name alone finds another one or none."""
    own, found = Path(sys.argv[0]), shutil.which("hubdpo")
    is_found = found is not None and own.exists() and Path(found).samefile(own)
    return "hubdpo" if is_found or own.name != "hubdpo" else shlex.quote(sys.argv[0])
