"""A base that was never tuned to chat, with Qwen3's template: what is trained is what is loaded, and stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import trl
from transformers import AutoTokenizer

from hubdpo import evaluate, load_adapter, merge, prepare, push, train
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import PROBES_FILE, RUN_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, EndOfTurn, RunManifest
from hubdpo.cards.commands import train_command
from hubdpo.config import PushConfig
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.errors import ConfigError, VerificationFailed
from hubdpo.model.adapters.load import answer, load_on_base
from hubdpo.model.generation import stops_elsewhere, unstopped, write_stops
from hubdpo.model.probes import compare_probes
from hubdpo.release.drafts import adapter_draft
from hubdpo.release.inspect import inspect
from hubdpo.release.verify.loads import check_merged

NOTHING_THOUGHT = "<think>\n\n</think>\n\n"
KWARGS = {"enable_thinking": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    folder = Path(shutil.copytree(tiny_base, tmp_path_factory.mktemp("base") / "qwen3-base"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": tokenizer.eos_token_id}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path, dataset_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(
        model_name_or_path=str(base), dataset=str(dataset_dir), output_dir=folder, max_steps=1, max_length=128,
        learning_rate=1e-3, gradient_accumulation_steps=1, chat_template_kwargs=KWARGS, load_in_4bit=False,
    )  # fmt: skip
    return folder


def end_of(base: Path) -> EndOfTurn:
    end, stop = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    return EndOfTurn(token="<|im_end|>", id=end, base_stops_at=[stop])


def test_run_json_records_template_arguments_and_end_of_turn(run: Path, base: Path) -> None:
    made = RunManifest.read(run / RUN_FILE)
    assert made.config["chat_template_kwargs"] == KWARGS
    assert made.end_of_turn == end_of(base)
    assert "stop_token_ids" in str(stops_elsewhere(made))
    assert """--chat-template-kwargs '{"enable_thinking": false}'""" in train_command(made)


def test_generation_of_a_run_stops_where_its_answers_end(run: Path, base: Path) -> None:
    settings = json.loads((run / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == end_of(base).all_stops


def test_the_probes_are_asked_as_in_training(run: Path, base: Path) -> None:
    probes = Probes.read(run / PROBES_FILE)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert all(tokenizer.decode(probe.prompt_ids).endswith(NOTHING_THOUGHT) for probe in probes.probes)
    model, loaded = load_on_base(run, base, device="cpu", load_in_4bit=False)
    assert compare_probes(model, loaded, probes).passed
    with pytest.raises(VerificationFailed, match="other tokens"):
        compare_probes(model, tokenizer, probes.model_copy(update={"chat_template_kwargs": None}))


def test_a_loaded_adapter_asks_and_stops_as_it_was_trained(run: Path, base: Path) -> None:
    loaded = load_adapter(run, load_in_4bit=False)
    chat = [{"role": "user", "content": "Why?"}]
    asked = loaded.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert asked.endswith(NOTHING_THOUGHT)
    assert loaded.model.generation_config.eos_token_id == end_of(base).all_stops
    assert answer(loaded, "Why?", max_new_tokens=2) is not None


def test_evaluation_asks_as_in_training(run: Path, tmp_path: Path) -> None:
    before = EvalReport.read(run / "eval.json")
    again = Path(shutil.copytree(run, tmp_path / "run"))
    report = evaluate(model=again, device="cpu", max_answers=0)
    told_by_evaluate = {"dataset", "health", "model"}
    assert report.model_dump(exclude=told_by_evaluate) == before.model_dump(exclude=told_by_evaluate)


def test_a_merged_model_stops_too_and_gives_the_probes(run: Path, base: Path, tmp_path: Path) -> None:
    merge(adapter=str(run), output_dir=tmp_path / "merged", dtype="float32", device="cpu")
    settings = json.loads((tmp_path / "merged" / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == end_of(base).all_stops
    assert check_merged(tmp_path / "merged").passed
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert "return_dict=True, enable_thinking=False)" in card


def test_inspecting_and_the_card_say_both(run: Path, base: Path) -> None:
    found = inspect(str(run))
    assert "eos_token_id" in [finding.field for finding in found.findings]
    assert found.facts["chat template kwargs"] == KWARGS
    ref = BaseRef(name="me/base", repo_id="me/base", revision="0" * 40, license="mit")
    config = PushConfig(folder=run, repo="me/it", version="1.0.0")
    card = adapter_draft(config, RunManifest.read(run / RUN_FILE), ref).card("1.0.0")
    assert f"`stop_token_ids` `[{end_of(base).id}]`" in card
    assert '```json\n{"enable_thinking": false}\n```' in card


def test_publishing_says_where_it_stops(
    run: Path, tiny_base_repo: str, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    push(folder=run, repo=repo_id, version="1.0.0", base_model=tiny_base_repo, dry_run=True)
    assert "the chat template ends a turn with `<|im_end|>`" in capsys.readouterr().err


def test_preparing_counts_with_them_and_says_so(base: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"prompt": "Why?", "chosen": "It is so.", "rejected": "No."}\n' * 2, encoding="utf-8")
    made = prepare(
        source=[str(raw)], output_dir=tmp_path / "data", model=str(base), chat_template_kwargs=KWARGS, test_size=0
    )
    assert isinstance(made, PrepareManifest)
    assert made.config["chat_template_kwargs"] == KWARGS
    with pytest.raises(ConfigError, match="does not read `thinking`"):
        prepare(source=[str(raw)], output_dir=tmp_path / "no", model=str(base), chat_template_kwargs="thinking=1")
    encoder_of.cache_clear()


def test_training_refuses_what_the_template_does_not_read(base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not read `thinking`"):
        train(
            model_name_or_path=str(base), dataset=str(dataset_dir), output_dir=tmp_path / "run",
            chat_template_kwargs={"thinking": False},
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("files", "stops"),
    [
        ({"generation_config.json": {"eos_token_id": 7}}, [7]),
        ({"generation_config.json": {"eos_token_id": [7, 8]}, "config.json": {"eos_token_id": 5}}, [7, 8]),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 6}}, [6]),
        ({"config.json": {}}, []),
        ({"generation_config.json": {"eos_token_id": [7, 5]}}, None),
        ({"config.json": {"eos_token_id": 5}}, None),
    ],
)
def test_where_a_base_stops(files: dict[str, dict[str, object]], stops: list[int] | None, tmp_path: Path) -> None:
    for name, settings in files.items():
        (tmp_path / name).write_text(json.dumps(settings), encoding="utf-8")
    expected = None if stops is None else EndOfTurn(token="<|im_end|>", id=5, base_stops_at=stops)
    assert unstopped(tmp_path, ("<|im_end|>", 5)) == expected
    assert unstopped(tmp_path, None) is None


def test_a_base_without_a_generation_config_gets_one(tmp_path: Path) -> None:
    write_stops(tmp_path, EndOfTurn(token="<|im_end|>", id=5, base_stops_at=[7]))
    assert json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8")) == {"eos_token_id": [5, 7]}
