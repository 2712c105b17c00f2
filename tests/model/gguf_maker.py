"""Write GGUF files, and scripts that stand in for llama.cpp's converters: they take the same words."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
U32, F32, TEXT, ARRAY = 4, 6, 8, 9
KINDS = {"f32": (0, 4), "f16": (1, 2)}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(metadata: Mapping[str, str | float | list[str]], shapes: Mapping[str, tuple[int, ...]], kind: str) -> bytes:
    """Return a GGUF file whose tensors are all zero."""
    number, size = KINDS[kind]
    head = [b"GGUF", struct.pack("<IQQ", 3, len(shapes), len(metadata))]
    for key, value in metadata.items():
        head.append(text(key))
        if isinstance(value, str):
            head += [struct.pack("<I", TEXT), text(value)]
        elif isinstance(value, list):
            head += [struct.pack("<IIQ", ARRAY, TEXT, len(value)), *map(text, value)]
        else:
            head.append(struct.pack("<If", F32, value))
    offset = 0
    for name, shape in shapes.items():
        values = 1
        for part in shape:
            values *= part
        head += [text(name), struct.pack(f"<I{len(shape)}Q", len(shape), *shape), struct.pack("<IQ", number, offset)]
        offset += -(-values * size // 32) * 32
    start = b"".join(head)
    return start + bytes(-len(start) % 32) + bytes(offset)


def stand_in(arguments: list[str]) -> None:
    """Convert as llama.cpp's converters would, and write the words that were given beside the file of the weights."""
    import json

    from hubdpo.artefacts.formats.safetensors_header import read_header

    options = {word: arguments[place + 1] for place, word in enumerate(arguments) if word.startswith("--")}
    folder = Path(arguments[0])
    shapes = {name: shape for path in folder.glob("*.safetensors") for name, shape in read_header(path).items()}
    metadata: dict[str, str | float | list[str]] = {"general.architecture": "qwen2", "tokens": ["a", "b"]}
    if (folder / "adapter_config.json").is_file():
        config = json.loads((folder / "adapter_config.json").read_text())
        metadata |= {"general.type": "adapter", "adapter.lora.alpha": float(config["lora_alpha"])}
        assert sorted(path.name for path in Path(options["--base"]).glob("config.json")) == ["config.json"]
    kind = "f16" if options["--outtype"] == "auto" else options["--outtype"]
    Path(options["--outfile"]).write_bytes(gguf(metadata, shapes, kind))


def write_converters(folder: Path, then: str = "") -> Path:
    """Write both scripts into a folder. `then` is Python that runs after the conversion, with `file` as its result."""
    folder.mkdir(exist_ok=True)
    for name in ("convert_lora_to_gguf.py", "convert_hf_to_gguf.py"):
        (folder / name).write_text(
            f"import pathlib, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from tests.model.gguf_maker import stand_in\nstand_in(sys.argv[1:])\n"
            f"file = pathlib.Path(sys.argv[sys.argv.index('--outfile') + 1])\n{then}\n"
        )
    return folder
