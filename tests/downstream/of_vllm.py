"""vLLM's build for the CPU, and what it accepts of adapter configs beside what cards say of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

from hubdpo.cards.model.proofs import Proof
from hubdpo.cards.model.serving import VLLM as NAME
from hubdpo.cards.model.serving import problems
from tests.cards.made import CONFIG
from tests.cards.test_cards_serving import PROBLEMS
from tests.downstream import environments
from tests.downstream.answers import of_server
from tests.downstream.card import block, lines, run_lines, serving
from tests.downstream.environments import VLLM
from tests.downstream.of_merged import free_port
from tests.downstream.setting import NotWithin, Setting

MORE = "--dtype float32 --max-model-len 1024 --enforce-eager --max-num-seqs 4"
FOUND_LATER = {"classifier", "rank of other weights", "token rows"}
"""Problems of PROBLEMS that vLLM finds when it loads the weights, not in the config."""
ACCEPTS = """
import json, sys
from vllm.config.lora import LoRAConfig
from vllm.lora.peft_helper import PEFTHelper
refused = {}
for name, config in json.load(sys.stdin).items():
    try:
        PEFTHelper.from_dict(config).validate_legal(LoRAConfig(max_lora_rank=512))
    except ValueError as problem:
        refused[name] = str(problem)
print(json.dumps(refused))
"""


def vllm(setting: Setting) -> Iterator[Proof]:
    bins = environments.vllm()
    env = {
        **os.environ, "PATH": os.pathsep.join([str(bins), os.environ["PATH"]]), "PYTHONPATH": "",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }  # fmt: skip
    _compare_rules(str(bins / "python"), env)
    *_, serve = lines(block(setting.card, "vllm serve"))
    run_lines(block(setting.card, "vllm serve"), setting.work, env, but=["vllm serve"])
    name, port = serve.partition("--lora-modules ")[2].partition("=")[0], free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(f"{serve} {MORE} --port {port}", setting.work, env, f"{address}/health"):
        answers = of_server(address, name, setting.tokenizer)
    yield setting.proof("vLLM", f"the card's commands with `{MORE}`", f"{VLLM} for the CPU", answers)


def _compare_rules(python: str, env: dict[str, str]) -> None:
    """Compare what vLLM's own check refuses with what cards say breaks it. Raise NotWithin for a difference."""
    configs = {
        name: {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"], **CONFIG, **adapter.config}
        for name, (adapter, _, _) in PROBLEMS.items()
        if adapter.config.get("peft_type", "LORA") == "LORA" and adapter.config != CONFIG
    }
    done = subprocess.run(
        [python, "-c", ACCEPTS], input=json.dumps(configs), env=env, capture_output=True, text=True, check=True
    )
    refused = set(json.loads(done.stdout.splitlines()[-1]))
    said = {
        name for name, (adapter, _, _) in PROBLEMS.items()
        if name in configs and any(NAME in one.breaks for one in problems(adapter))
    }  # fmt: skip
    if refused != said - FOUND_LATER:
        raise NotWithin(f"vLLM's own check refuses {sorted(refused)}, cards say {sorted(said)}")
