"""`--chat-template`: a base without one is trained, and its adapter asks, stops and merges with the one given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from hubdpo import evaluate, load_adapter, merge, prepare, train
from hubdpo.artefacts.folders.run_folder import train_again
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import PROBES_FILE, RUN_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.cards.commands import prepare_command, train_command
from hubdpo.config import PushConfig
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.errors import ResumeMismatch, UnsupportedBase
from hubdpo.release.drafts import adapter_draft
from hubdpo.release.inspect import inspect
from hubdpo.release.verify.loads import check_merged

CHAT = [{"role": "user", "content": "Why?"}]
ASKED = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
OWN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[assistant] "


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    folder = Path(shutil.copytree(tiny_base, tmp_path_factory.mktemp("base") / "bare"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def trained(base: Path, dataset: Path, folder: Path, template: str, *, resume: bool = False, steps: int = 1) -> Path:
    train(
        model_name_or_path=str(base), dataset=str(dataset), output_dir=folder, max_steps=steps, max_length=128,
        gradient_accumulation_steps=1, chat_template=template, load_in_4bit=False, resume=resume, save_steps=1,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path, dataset_dir: Path) -> Path:
    return trained(base, dataset_dir, tmp_path_factory.mktemp("run") / "run", "chatml")


def test_a_base_without_one_names_the_option(base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedBase) as caught:
        train(model_name_or_path=str(base), dataset=str(dataset_dir), output_dir=tmp_path / "run")
    assert "--chat-template chatml" in caught.value.hint


def test_the_run_has_the_template_in_both_places(run: Path) -> None:
    source = (run / "chat_template.jinja").read_text(encoding="utf-8")
    assert "<|im_start|>" in source
    assert json.loads((run / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"] == source
    tokenizer = AutoTokenizer.from_pretrained(run)
    assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == ASKED
    assert RunManifest.read(run / RUN_FILE).config["chat_template"] == "chatml"


def test_an_adapter_is_loaded_and_evaluated_with_it(run: Path, tmp_path: Path) -> None:
    loaded = load_adapter(run, load_in_4bit=False)
    assert loaded.tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == ASKED
    before = EvalReport.read(run / "eval.json")
    again = Path(shutil.copytree(run, tmp_path / "run"))
    report = evaluate(model=again, device="cpu", max_answers=0)
    told = {"dataset", "health", "model"}  # which an evaluation of its own says, and the one after training does not
    assert report.model_dump(exclude=told) == before.model_dump(exclude=told)


def test_a_merged_model_has_it(run: Path, tmp_path: Path) -> None:
    merge(adapter=str(run), output_dir=tmp_path / "merged", dtype="float32", device="cpu")
    assert (tmp_path / "merged/chat_template.jinja").read_bytes() == (run / "chat_template.jinja").read_bytes()
    assert check_merged(tmp_path / "merged").passed


def test_the_card_and_inspect_say_so(run: Path) -> None:
    manifest = RunManifest.read(run / RUN_FILE)
    ref = BaseRef(name="me/base", repo_id="me/base", revision="0" * 40, license="mit")
    card = adapter_draft(PushConfig(folder=run, repo="me/it", version="1.0.0"), manifest, ref).card("1.0.0")
    assert "`chat_template.jinja`, which is not the base's" in card and "chat template of the training" in card
    assert "--chat-template chatml" in train_command(manifest)
    inspection = inspect(str(run))
    assert inspection.facts["chat template"] == "chatml"
    commands = {program.name: program.code for program in inspection.ways}
    assert commands["vLLM"].endswith(f"--chat-template {run}/chat_template.jinja")
    assert "\n  --chat-template ./adapter/chat_template.jinja\n" in card


def test_a_file_is_recorded_by_its_content(
    base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(OWN, encoding="utf-8")
    folder = trained(base, dataset_dir, tmp_path / "run", str(file))
    manifest = RunManifest.read(folder / RUN_FILE)
    assert manifest.config["chat_template"].startswith("sha256:") and str(tmp_path) not in str(manifest.config)
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == OWN
    assert "--chat-template chat_template.jinja" in train_command(manifest)
    assert f"--chat-template {file}" in train_again(folder)
    probes = Probes.read(folder / PROBES_FILE)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert tokenizer.decode(probes.probes[0].prompt_ids).endswith("[assistant] ")
    moved = Path(file.rename(tmp_path / "moved.jinja"))
    trained(base, dataset_dir, folder, str(moved), resume=True)
    moved.write_text(OWN.replace("[", "<"), encoding="utf-8")
    with pytest.raises(ResumeMismatch, match="chat_template"):
        trained(base, dataset_dir, folder, str(moved), resume=True)


def test_a_template_in_place_of_the_bases_own_is_said(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        model_name_or_path=str(tiny_base), dataset=str(dataset_dir), output_dir=tmp_path / "run", dry_run=True,
        chat_template="llama3", load_in_4bit=False, max_length=128,
    )  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    assert "template llama3, in place of the base's own" in said
    assert "`<|end_header_id|>`, `<|start_header_id|>` of the chat template are no tokens of this base" in said
    assert "no token at which generation could stop" not in said  # answers end with the base's own


def test_prepare_counts_with_it_and_train_says_where_another_is_used(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, file = tmp_path / "raw.jsonl", tmp_path / "own.jinja"
    raw.write_text('{"prompt": "Why?", "chosen": "It is so.", "rejected": "No."}\n' * 2, encoding="utf-8")
    file.write_text(OWN, encoding="utf-8")
    made = {
        template: prepare(
            source=[str(raw)], output_dir=tmp_path / Path(template).stem, model=str(base), chat_template=template,
            test_size=0,
        )
        for template in ("chatml", str(file))
    }  # fmt: skip
    first, second = made.values()
    assert isinstance(first, PrepareManifest) and isinstance(second, PrepareManifest)
    assert first.config["chat_template"] == "chatml" and second.config["chat_template"].startswith("sha256:")
    assert first.fingerprint != second.fingerprint
    assert "--chat-template chat_template.jinja" in prepare_command(second, shipped_cards={})
    capsys.readouterr()
    train(
        model_name_or_path=str(base), dataset=str(tmp_path / "chatml"), output_dir=tmp_path / "run", dry_run=True,
        chat_template="zephyr", load_in_4bit=False,
    )  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    assert "counted with the chat template `chatml`, and this run has `zephyr`" in said
    encoder_of.cache_clear()
