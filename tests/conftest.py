"""One loopback Hub for the whole session. It starts here, before any Hugging Face library reads its environment."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hubdpo import console
from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages

_SCRATCH = Path(tempfile.mkdtemp(prefix="hubdpo-tests-"))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)

WRITE_TOKEN, READ_TOKEN, OTHER_TOKEN = "hf_alice_write", "hf_alice_read", "hf_bob_write"
_SERVER = LoopbackHub(
    _SCRATCH / "hub",
    tokens=[f"alice:{WRITE_TOKEN}:write", f"alice:{READ_TOKEN}:read", f"bob:{OTHER_TOKEN}:write"],
    pages=HubPages(),
)
_SERVER.start()
atexit.register(_SERVER.stop)

os.environ.update(
    {
        "HF_ENDPOINT": _SERVER.endpoint,
        "HF_HOME": str(_SCRATCH / "hf-home"),
        "HF_TOKEN": WRITE_TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HUBDPO_CACHE": str(_SCRATCH / "cache"),
    }
)
console.quiet_libraries()
console.output.as_typed = True  # messages are tested as they are written; tests/config has how a call spells them
# for tensors as small as these, threads spend more time on each other than on the work
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class Hub:
    endpoint: str
    root: Path
    server: LoopbackHub
    token: str = WRITE_TOKEN
    read_token: str = READ_TOKEN
    other_token: str = OTHER_TOKEN
    user: str = "alice"


@pytest.fixture(scope="session")
def hub() -> Hub:
    return Hub(endpoint=_SERVER.endpoint, root=_SCRATCH / "hub", server=_SERVER)


@pytest.fixture
def repo_id(hub: Hub) -> str:
    """A name on the Hub that nothing has used yet."""
    return f"{hub.user}/r-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of a few layers with its own BPE tokenizer, Qwen2's special tokens and chat template."""
    from hubdpo.demo.tiny_base import make_tiny_base

    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny-qwen2")


@pytest.fixture(scope="session")
def tiny_base_repo(tiny_base: Path, hub: Hub) -> str:
    """The same base on the Hub, licensed apache-2.0."""
    from huggingface_hub import HfApi

    name = f"{hub.user}/tiny-qwen2"
    api = HfApi()
    api.create_repo(name, exist_ok=True)
    api.upload_folder(repo_id=name, folder_path=str(tiny_base), commit_message="A tiny random Qwen2")
    return name


PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"Question {i}: what is {i} plus one?"}],
        "chosen": [{"role": "assistant", "content": f"It is {i + 1}, gladly."}],
        "rejected": [{"role": "assistant", "content": f"No idea about {i}."}],
    }
    for i in range(48)
]


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset folder of 48 pairs."""
    import orjson

    from hubdpo import prepare

    folder = tmp_path_factory.mktemp("data")
    raw = folder / "pairs.jsonl"
    raw.write_bytes(b"".join(orjson.dumps(pair) + b"\n" for pair in PAIRS))
    prepare(source=[str(raw)], output_dir=folder / "prepared", test_size=0.25, license="mit")
    return folder / "prepared"


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, tiny_base_repo: str, dataset_dir: Path) -> Path:
    """A finished training run of four steps on the tiny base, NF4."""
    from hubdpo import evaluate, train

    folder = tmp_path_factory.mktemp("run") / "run"
    train(
        model_name_or_path=tiny_base_repo, dataset=str(dataset_dir), output_dir=folder, max_steps=4,
        learning_rate=1e-3, max_length=128, gradient_accumulation_steps=1, save_steps=2, eval_steps=2,
    )  # fmt: skip
    evaluate(model=folder, max_answers=4, max_new_tokens=12)
    return folder


@pytest.fixture
def fresh_hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment for a new process that has never seen the run: an empty HF_HOME."""
    yield {
        **os.environ,
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_DATASETS_CACHE": str(tmp_path / "hf-home" / "datasets"),
    }
