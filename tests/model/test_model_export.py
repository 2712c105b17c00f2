"""`hubdpo export --gguf`: a whole, checked file or the old one, with scripts in place of llama.cpp's converters."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file
from typer.testing import CliRunner

from hubdpo import console, export
from hubdpo.artefacts.formats.gguf_header import read_gguf
from hubdpo.cli.app import app
from hubdpo.errors import ArtefactError, ConfigError, HubdpoError
from tests.cards.made import CONFIG, SHAPES
from tests.model.gguf_maker import gguf, write_converters

OLD = gguf({"general.type": "adapter"}, {}, "f16")
VALUES = sum(map(math.prod, SHAPES.values()))


@pytest.fixture
def converters(tmp_path: Path) -> Path:
    return write_converters(tmp_path / "llama.cpp")


def adapter(folder: Path, base: Path | str, **changes: Any) -> Path:
    """Write an adapter that another tool could have made."""
    folder.mkdir(exist_ok=True)
    config = {**CONFIG, "base_model_name_or_path": str(base), "revision": None, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({name: torch.zeros(shape) for name, shape in SHAPES.items()}, folder / "adapter_model.safetensors")
    return folder


def refusal(**options: Any) -> HubdpoError:
    with pytest.raises(HubdpoError) as caught:
        export(**{"gguf": True, **options})
    return caught.value


def test_an_adapter_becomes_a_file_with_its_values_and_scale(
    tmp_path: Path, tiny_base: Path, converters: Path
) -> None:  # fmt: skip
    made = adapter(tmp_path / "made", tiny_base)
    found = export(made, tmp_path / "made.gguf", gguf=True, llama_cpp=converters)
    header = read_gguf(tmp_path / "made.gguf")
    assert (found.kind, found.tensors, found.parameters) == ("adapter", 2, VALUES)
    assert (header.values, header.metadata["adapter.lora.alpha"]) == (VALUES, 32.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.cpp", "made", "made.gguf"]


def test_of_a_base_on_the_hub_the_weights_are_not_fetched(tmp_path: Path, tiny_base: Path, repo_id: str) -> None:
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=str(tiny_base))
    script = "place = pathlib.Path(sys.argv[sys.argv.index('--base') + 1])\n"
    script += f"pathlib.Path({str(tmp_path / 'seen')!r}).write_text(' '.join(p.name for p in place.iterdir()))"
    folder = write_converters(tmp_path / "llama.cpp", script)
    export(adapter(tmp_path / "made", repo_id), tmp_path / "made.gguf", gguf=True, llama_cpp=folder)
    seen = (tmp_path / "seen").read_text().split()
    assert {"config.json", "tokenizer.json"} <= {*seen}
    assert "model.safetensors" not in seen


def test_a_rank_stabilised_adapter_keeps_its_scale(tmp_path: Path, tiny_base: Path, converters: Path) -> None:
    # llama.cpp divides by the rank, rsLoRA by its root
    made = adapter(tmp_path / "made", tiny_base, use_rslora=True, lora_alpha=8)
    export(made, tmp_path / "made.gguf", gguf=True, llama_cpp=converters)
    assert read_gguf(tmp_path / "made.gguf").metadata["adapter.lora.alpha"] / 16 == 8 / math.sqrt(16)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_qalora": True}, "use_qalora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
    ],
)
def test_what_llama_cpp_cannot_run_is_refused_before_the_converter_starts(
    tmp_path: Path, tiny_base: Path, changes: dict[str, Any], field: str
) -> None:
    folder = write_converters(tmp_path / "llama.cpp", "raise SystemExit('started')")
    made = adapter(tmp_path / "made", tiny_base, **changes)
    problem = refusal(model=made, output=tmp_path / "made.gguf", llama_cpp=folder)
    assert f"llama.cpp cannot run this adapter: `{field}`" in problem.message
    assert (problem.hint is None) == (field == "modules_to_save")  # which `hubdpo merge` refuses too


def test_the_command_of_a_hint_can_be_pasted(tmp_path: Path, tiny_base: Path) -> None:
    folder = write_converters(tmp_path / "llama.cpp", "")
    made = adapter(tmp_path / "my adapter; x", tiny_base, use_qalora=True)
    problem = refusal(model=made, output=tmp_path / "made.gguf", llama_cpp=folder)
    assert problem.hint == f"hubdpo merge '{made}' -o merged, and export that"
    (tmp_path / "a folder").mkdir()
    problem = refusal(model=made, output=tmp_path / "a folder", llama_cpp=folder)
    assert problem.hint == f"-o '{tmp_path}/a folder/model.gguf'"


def test_a_base_in_4_bits_is_refused(tmp_path: Path, tiny_base: Path, converters: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    for model in (adapter(tmp_path / "made", base), base):
        problem = refusal(model=model, output=tmp_path / "made.gguf", llama_cpp=converters)
        assert "are stored quantised (bitsandbytes)" in problem.message


def test_a_whole_model_becomes_a_file_of_the_type_asked_for(
    tmp_path: Path, tiny_base: Path, converters: Path
) -> None:  # fmt: skip
    found = export(tiny_base, tmp_path / "model.gguf", gguf=True, outtype="f32", llama_cpp=converters)
    assert (found.kind, found.architecture) == ("merged", "qwen2")
    assert found.bytes > 4 * found.parameters


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("raise NotImplementedError('BPE pre-tokenizer was not recognized - update it')", "pre-tokenizer was not"),
        ("raise ModuleNotFoundError(\"No module named 'sentencepiece'\")", "the Python package `sentencepiece`"),
        ("file.write_bytes(file.read_bytes()[:-1])", "cannot be used: it is truncated"),
        ("file.unlink()", "the converter wrote no file"),
        (
            "data = file.read_bytes(); file.write_bytes(data.replace(b'adapter', b'another', 1))",
            "is of type another, the weights ask for adapter",
        ),
        (
            "import struct; data = file.read_bytes(); place = data.index(struct.pack('<Q', 64)); "
            "file.write_bytes(data[:place] + struct.pack('<Q', 32) + data[place + 8:])",
            "values, the weights ask for 2,048 values",
        ),
        (
            "import struct; data = file.read_bytes(); "
            "file.write_bytes(data.replace(struct.pack('<f', 32), struct.pack('<f', 16), 1))",
            "has lora_alpha 16.0, the weights ask for 32.0",
        ),
    ],
    ids=["fails", "lacks a package", "cut", "nothing", "of another type", "fewer values", "another scale"],
)
def test_a_conversion_that_is_not_whole_leaves_the_old_file(
    tmp_path: Path, tiny_base: Path, then: str, words: str
) -> None:  # fmt: skip
    folder, output = write_converters(tmp_path / "llama.cpp", then), tmp_path / "made.gguf"
    output.write_bytes(OLD)
    problem = refusal(model=adapter(tmp_path / "made", tiny_base), output=output, llama_cpp=folder)
    assert words in problem.message
    assert output.read_bytes() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.cpp", "made", "made.gguf"]


def test_the_converter_is_found_by_option_environment_and_path(
    tmp_path: Path, tiny_base: Path, converters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, output = adapter(tmp_path / "made", tiny_base), tmp_path / "made.gguf"
    monkeypatch.delenv("HUBDPO_LLAMA_CPP", raising=False)
    problem = refusal(model=made, output=output)
    assert "convert_lora_to_gguf.py, which llama.cpp's sources have, was not found" in problem.message
    assert "git clone" in str(problem.hint)
    problem = refusal(model=made, output=output, llama_cpp=tmp_path)
    assert problem.message == f"`{tmp_path}`, from `--llama-cpp`, has no convert_lora_to_gguf.py"
    (converters / "convert_lora_to_gguf.py").chmod(0o755)
    monkeypatch.setenv("PATH", str(converters))
    assert export(made, output, gguf=True).tensors == 2
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HUBDPO_LLAMA_CPP", str(converters))
    assert export(made, output, gguf=True).tensors == 2


def test_another_file_is_not_overwritten(tmp_path: Path, tiny_base: Path, converters: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    made = adapter(tmp_path / "made", tiny_base)
    problem = refusal(model=made, output=tmp_path / "notes", llama_cpp=converters)
    assert problem.message == f"`{tmp_path / 'notes'}` exists and is not a GGUF file"
    assert refusal(model=made, output=tmp_path, llama_cpp=converters).message == f"`{tmp_path}` is a folder"
    assert (tmp_path / "notes").read_text() == "mine"


def test_what_holds_no_model_is_refused(tmp_path: Path, converters: Path) -> None:
    (tmp_path / "empty").mkdir()
    problem = refusal(model=tmp_path / "empty", output=tmp_path / "x.gguf", llama_cpp=converters)
    assert isinstance(problem, ArtefactError)
    assert "holds no adapter and no model" in problem.message


def test_the_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.output, "as_typed", False)
    with pytest.raises(ConfigError, match="no format is given for the file") as caught:
        export("run", "x.gguf")
    assert caught.value.hint == "gguf=True"


def test_the_command_says_what_it_wrote_and_how_it_runs(tmp_path: Path, tiny_base: Path, converters: Path) -> None:
    made, output = adapter(tmp_path / "made", tiny_base), tmp_path / "made.gguf"
    words = ["export", str(made), "--gguf", "-o", str(output), "--llama-cpp", str(converters)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"{output}: LoRA adapter for qwen2, 2 tensors with {VALUES:,} values" in done.output
    assert f"llama-server --model BASE.gguf --lora {output}" in done.output
