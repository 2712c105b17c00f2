"""A run whose tokenizer differs from the one that counted the dataset warns, once and before heavy work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE, sha256_file
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import TrainConfig
from hubdpo.training.start import check_start, warn_of_other_tokenizer

THINK, NONE = {"enable_thinking": False}, None


def counted_by(dataset_dir: Path, model: dict[str, Any] | None, kwargs: dict[str, Any] | None) -> PrepareManifest:
    manifest = PrepareManifest.read(dataset_dir / PREPARE_FILE)
    config = {**manifest.config, "model": model, "chat_template_kwargs": kwargs}
    return manifest.model_copy(update={"config": config})


def config_of(base: str, **more: Any) -> TrainConfig:
    return TrainConfig.build({"model_name_or_path": base, "dataset": "d", "output_dir": "o", **more})


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (THINK, NONE, ['with `--chat-template-kwargs` {"enable_thinking": false}, and this run has none',
                       """hint: --chat-template-kwargs '{"enable_thinking": false}'"""]),
        (NONE, THINK, ['with `--chat-template-kwargs` none, and this run has {"enable_thinking": false}',
                       "hint: leave `--chat-template-kwargs` out"]),
        (THINK, THINK, []), (NONE, NONE, []),
    ],
)  # fmt: skip
def test_other_template_arguments_are_warned_of(
    tiny_base: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str], before: Any, now: Any, told: list[str]
) -> None:
    same = {"name": "tiny", "revision": None, "tokenizer": sha256_file(tiny_base / "tokenizer.json")}
    warn_of_other_tokenizer(counted_by(dataset_dir, same, before), config_of(str(tiny_base), chat_template_kwargs=now))
    said = capsys.readouterr().err
    assert all(part in said for part in told)
    assert bool(said) == bool(told)


def test_another_tokenizer_is_warned_of_but_not_another_name_of_the_same(
    tiny_base: Path, tiny_base_repo: str, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import HfApi

    sha = str(HfApi().model_info(tiny_base_repo).sha)
    on_hub = {"name": tiny_base_repo, "revision": sha, "tokenizer": None}
    for base in (config_of(str(tiny_base)), config_of(tiny_base_repo, model_revision=sha)):
        warn_of_other_tokenizer(counted_by(dataset_dir, on_hub, None), base)
    warn_of_other_tokenizer(counted_by(dataset_dir, None, None), config_of(str(tiny_base), chat_template_kwargs=THINK))
    assert capsys.readouterr().err == ""
    for model in ({"name": "other", "revision": None, "tokenizer": "0" * 64},
                  {"name": "alice/gone", "revision": "1" * 40, "tokenizer": None}):  # fmt: skip
        warn_of_other_tokenizer(counted_by(dataset_dir, model, None), config_of(str(tiny_base)))
        said = capsys.readouterr().err
        assert f"counted with the tokenizer of {model['name']}" in said
        assert f"this run uses that of {tiny_base}" in said


def test_check_start_warns_of_another_tokenizer(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(f'{{"prompt": "p{i}", "chosen": "good {i}", "rejected": "bad"}}\n' for i in range(8)))
    other = Path(shutil.copytree(tiny_base, tmp_path / "other"))
    (other / "tokenizer.json").write_text((tiny_base / "tokenizer.json").read_text() + "\n")
    prepare(source=[str(raw)], output_dir=tmp_path / "data", model=str(tiny_base))
    start = {"dataset": str(tmp_path / "data"), "output_dir": tmp_path / "run"}
    capsys.readouterr()
    check_start(config_of(str(tiny_base), **start))
    assert capsys.readouterr().err == ""
    check_start(config_of(str(other), **start))
    assert "counted with the tokenizer of tiny-qwen2" in capsys.readouterr().err
