"""`transformers serve` and MLX, which run the merged model: compared with PEFT on the weights it was merged into."""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Iterator
from pathlib import Path

from hubdpo.cards.model.proofs import Proof
from hubdpo.version import __version__
from tests.downstream.answers import of_model, of_server
from tests.downstream.card import block, lines, run_lines, serving
from tests.downstream.environments import PACKAGES, environment, packages
from tests.downstream.setting import ROUNDED, Setting


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def version_of(name: str, program: str) -> str:
    """Return the version that is asked of pip for a program."""
    return next(wanted.partition("==")[2] for wanted in PACKAGES[program] if wanted.startswith(f"{name}=="))


def transformers_serve(setting: Setting) -> Iterator[Proof]:
    from transformers import AutoModelForCausalLM

    code, version = block(setting.card, "transformers serve"), importlib.metadata.version("transformers")
    merge, serve = lines(code)
    env = environment(packages("transformers serve"))
    _merge(setting, merge)
    merged = setting.work / merge.rpartition(" ")[2]
    model = AutoModelForCausalLM.from_pretrained(merged)
    answers = of_model(model, setting.tokenizer)
    yield setting.proof(
        "hubdpo", "`hubdpo merge`, then transformers in float32", __version__, answers, reference=setting.trained,
        tolerance=ROUNDED,
    )  # fmt: skip
    port, more = free_port(), "--dtype float32"
    address = f"http://localhost:{port}"
    with serving(f"{serve} {more} --port {port}", setting.work, env, f"{address}/health"):
        answers = of_server(address, serve.rpartition(" ")[2], setting.tokenizer, log_probs=False)
    what = f"the card's commands with `{more}`"
    yield setting.proof(
        "transformers serve", what, version, answers, reference=setting.trained, tolerance=ROUNDED
    )  # fmt: skip


def mlx(setting: Setting) -> Iterator[Proof]:
    merge, convert, serve = lines(block(setting.card, "mlx_lm.convert"))
    env, more = environment(packages("MLX")), "--dtype float32"
    _merge(setting, merge)
    made = setting.work / convert.rpartition(" ")[2]
    if not made.exists():
        run_lines(convert, setting.work, env, more=[("mlx_lm.convert", more)])
    port = free_port()
    address = f"http://localhost:{port}"
    with serving(f"{serve} --port {port}", setting.work, env, f"{address}/health"):
        answers = of_server(address, serve.rpartition(" ")[2], setting.tokenizer)
    version = f"mlx-lm {version_of('mlx-lm', 'MLX')}, mlx-cpu {version_of('mlx-cpu', 'MLX')}"
    what = f"the card's commands with `{more}` in mlx_lm.convert"
    yield setting.proof("MLX", what, version, answers, reference=setting.trained, tolerance=ROUNDED)


def _merge(setting: Setting, command: str) -> Path:
    """Run the card's `hubdpo merge`, which leaves a folder as it is that an earlier call has made."""
    run_lines(command, setting.work, environment())
    return setting.work / command.rpartition(" ")[2]
