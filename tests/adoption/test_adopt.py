"""Adapters of other tools become runs that evaluate, push, verify, diff, merge and train take like our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from huggingface_hub import HfApi

import hubdpo
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.model.adopted import commit_words
from hubdpo.errors import ArtefactError, ConfigError, HubdpoError, LicenceError
from tests.adoption import left
from tests.training.sft import change, sft_adapter


@pytest.fixture(scope="module")
def made(tiny_base: Path, tiny_base_repo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter as LLaMA-Factory leaves it, of a base on another machine."""
    folder = sft_adapter(tiny_base, tmp_path_factory.mktemp("made") / "out")
    change(folder, base_model_name_or_path="/mnt/data/base")
    (folder / "chat_template.jinja").write_text((tiny_base / "chat_template.jinja").read_text() + "\n")
    shutil.copyfile(tiny_base / "tokenizer.json", folder / "tokenizer.json")
    return left.llama_factory(folder)


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture(scope="module")
def adopted(made: Path, tiny_base_repo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adopted") / "run"
    hubdpo.adopt(made, folder, base=tiny_base_repo)
    return folder


def test_a_run_says_what_is_known_and_where_it_is_from(adopted: Path, made: Path) -> None:
    run = RunManifest.read(adopted / "run.json")
    assert run.adopted is not None
    assert (run.adopted.words, run.adopted.source.name, run.steps) == ("LLaMA-Factory", "out", 4)
    assert (run.dataset, run.device, run.in_4bit, run.beta, run.losses, run.seed) == (None, None, None, None, [], 7)
    assert (adopted / "adapter_model.safetensors").read_bytes() == (made / "adapter_model.safetensors").read_bytes()
    assert json.loads((adopted / "metrics.jsonl").read_text().splitlines()[1])["loss"] == 0.61
    assert "/mnt/data" not in "".join(path.read_text() for path in adopted.glob("*.json"))


def test_what_is_not_taken_is_named(
    adapter: Path, tiny_base_repo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)
    said = capsys.readouterr().err
    assert run.adopted.left_out == ["checkpoint-2", "trainer_log.jsonl", "training_args.bin"]
    assert "1 file that may hold code, never opened: training_args.bin" in said
    assert "1 checkpoint: checkpoint-2" in said
    assert not (tmp_path / "run" / "training_args.bin").exists()
    assert "names '/mnt/data/base'" in said
    assert "known     trained by: LLaMA-Factory; " in said
    assert "unknown   " in said and "β" in said.partition("unknown   ")[2].partition("\n")[0]


def test_tokenizer_and_template_are_the_bases_where_they_only_look_otherwise(adopted: Path, tiny_base: Path) -> None:
    run = RunManifest.read(adopted / "run.json")
    assert not run.has_own_tokenizer and not run.has_own_template
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (adopted / name).read_bytes() == (tiny_base / name).read_bytes()


def test_another_template_goes_with_the_run(
    adapter: Path, tiny_base_repo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = (adapter / "chat_template.jinja").read_text().replace("helpful", "terse").strip()
    (adapter / "chat_template.jinja").write_text(template)
    run = hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)
    assert "has another chat template than" in capsys.readouterr().err
    assert run.has_own_template and run.config["chat_template"].startswith("sha256:")
    assert (tmp_path / "run" / "chat_template.jinja").read_text() == template
    assert "terse" in json.loads((tmp_path / "run" / "tokenizer_config.json").read_text())["chat_template"]


def test_a_file_named_as_a_template_is_never_read(
    adapter: Path, tiny_base_repo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.jinja").write_text("{{ messages }}")
    (adapter / "chat_template.jinja").write_text(str(tmp_path / "secret.jinja"))
    run = hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)
    assert "what `out` has for a chat template is none" in capsys.readouterr().err
    assert not run.has_own_template


def with_token(folder: Path, token_id: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = {"id": token_id, "content": "<|mine|>", "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer["added_tokens"].append({**added, "normalized": False, "special": True})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def test_tokens_of_its_own_go_with_the_run_where_the_base_has_rows_for_them(
    adapter: Path, tiny_base: Path, tiny_base_repo: str, dataset_dir: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    count = 1 + max(t["id"] for t in json.loads((tiny_base / "tokenizer.json").read_text())["added_tokens"])
    with_token(adapter, count)
    run = hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)
    assert f"another tokenizer than `{tiny_base_repo}`, {count + 1} ids and not {count}" in capsys.readouterr().err
    assert run.has_own_tokenizer and not run.has_own_template
    capsys.readouterr()
    hubdpo.train(dataset=dataset_dir, adapter=tmp_path / "run", output_dir=tmp_path / "more", dry_run=True)
    assert "`run` was trained with another tokenizer than `alice/tiny-qwen2`" in capsys.readouterr().err
    merged = hubdpo.merge(tmp_path / "run", tmp_path / "merged", dtype="float32")
    assert merged.check.largest_difference < 1e-3
    assert "<|mine|>" in (tmp_path / "merged" / "tokenizer.json").read_text()


def test_tokens_beyond_the_rows_of_the_base_are_refused(adapter: Path, tiny_base_repo: str, tmp_path: Path) -> None:
    with_token(adapter, 5_000)
    with pytest.raises(ConfigError, match=r"has 5,001 tokens, and .* has embeddings of"):
        hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)


def test_a_base_of_another_machine_is_asked_for(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'/mnt/data/base', which is a path of another machine") as caught:
        hubdpo.adopt(adapter, tmp_path / "run")
    assert "add `--base USER/NAME`" in str(caught.value.hint)


def test_the_base_that_the_adapter_names_is_taken_at_its_commit(
    adapter: Path, tiny_base_repo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = HfApi().model_info(tiny_base_repo).sha
    change(adapter, base_model_name_or_path=tiny_base_repo, revision=commit)
    run = hubdpo.adopt(adapter, tmp_path / "run")
    assert (run.base.repo_id, run.base.revision) == (tiny_base_repo, commit)
    assert "without a commit" not in capsys.readouterr().err


def test_a_base_that_does_not_fit_is_refused(adapter: Path, tmp_path: Path) -> None:
    from hubdpo.demo.tiny_base import make_tiny_base

    other = make_tiny_base(tmp_path / "other", hidden_size=128)
    with pytest.raises(ConfigError, match="`out` does not fit .*256 inputs, and the adapter 128"):
        hubdpo.adopt(adapter, tmp_path / "run", base=str(other))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"peft_type": "IA3"}, "of peft_type 'IA3', and hubdpo loads LoRA alone"),
        ({"r": 64}, "the largest rank in adapter_model.safetensors is 4"),
    ],
)
def test_what_is_no_lora_is_refused(
    adapter: Path, tiny_base_repo: str, tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    change(adapter, **keys)
    with pytest.raises(ArtefactError, match=words):
        hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"r": 2}, "`r` of adapter_config.json is 2, and `model.layers.0.mlp.down_proj` in .* has rank 4"),
        ({"rank_pattern": {"v_proj": 8}}, "is {'v_proj': 8}, and `model.layers.0.self_attn.v_proj` in .* has rank 4"),
        ({"use_dora": True}, "`use_dora` .* is True, and adapter_model.safetensors holds no magnitude of `model"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save` .* is 'lm_head', and .* holds no tensor of it"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_its_weights_is_refused_before_the_base_is_loaded(
    adapter: Path,
    tiny_base_repo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setattr("hubdpo.adoption.adopt.find_base", None)
    change(adapter, **keys)
    with pytest.raises(ArtefactError, match=words) as caught:
        hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)
    assert str(adapter) in str(caught.value)


def test_magnitudes_that_the_config_does_not_name_are_never_left_out(
    tiny_base: Path, tiny_base_repo: str, tmp_path: Path
) -> None:
    change(sft_adapter(tiny_base, tmp_path / "out", use_dora=True), use_dora=False)
    with pytest.raises(ArtefactError, match=r"`use_dora` .* is False, and .* holds a magnitude of"):
        hubdpo.adopt(tmp_path / "out", tmp_path / "run", base=tiny_base_repo)


def test_an_error_of_a_library_names_the_folder_that_was_given(
    adapter: Path, tiny_base_repo: str, tmp_path: Path
) -> None:
    change(adapter, target_modules=["q_proj"], exclude_modules=["q_proj"])
    with pytest.raises(ArtefactError) as caught:
        hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)
    assert str(adapter) in str(caught.value) and "hubdpo-tmp" not in f"{caught.value} {caught.value.hint}"


def test_weights_in_a_pickle_alone_are_refused(adapter: Path, tiny_base_repo: str, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ArtefactError, match="weights in any other form are not opened"):
        hubdpo.adopt(adapter, tmp_path / "run", base=tiny_base_repo)


def test_a_run_of_hubdpo_is_not_adopted(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="was made by hubdpo, so there is nothing to adopt"):
        hubdpo.adopt(run_dir, tmp_path / "run")


def test_the_same_again_changes_nothing_and_another_is_refused(
    adopted: Path, made: Path, tiny_base: Path, tiny_base_repo: str, tmp_path: Path
) -> None:
    before = (adopted / "run.json").read_bytes()
    hubdpo.adopt(made, adopted, base=tiny_base_repo)
    assert (adopted / "run.json").read_bytes() == before
    with pytest.raises(ConfigError, match="holds the adapter out, adopted"):
        hubdpo.adopt(made, adopted, base=tiny_base_repo, load_in_4bit=True)
    with pytest.raises(ConfigError, match="holds the adapter out, adopted"):
        hubdpo.adopt(sft_adapter(tiny_base, tmp_path / "b", r=2), adopted, base=tiny_base_repo)


def test_an_adoption_on_a_folder_that_was_changed_is_another(made: Path, tiny_base: Path, tmp_path: Path) -> None:
    base, out = Path(shutil.copytree(tiny_base, tmp_path / "base")), tmp_path / "run"
    run = hubdpo.adopt(made, out, base=str(base))
    assert hubdpo.adopt(made, out, base=str(base.rename(tmp_path / "moved"))) == run
    change(tmp_path / "moved", file="config.json", rms_norm_eps=1e-2)
    with pytest.raises(ConfigError, match="holds the adapter out, adopted"):
        hubdpo.adopt(made, out, base=str(tmp_path / "moved"))


def test_training_goes_on_from_it_and_never_in_it(adopted: Path, dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds an adopted adapter, which another tool trained"):
        hubdpo.train(dataset=dataset_dir, adapter=adopted, output_dir=adopted, resume=True)
    run = hubdpo.train(
        dataset=dataset_dir, adapter=adopted, output_dir=tmp_path / "more", max_steps=1, max_length=128,
        gradient_accumulation_steps=1, load_in_4bit=False,
    )  # fmt: skip
    assert [each.steps for each in run.rounds] == [1, 4]
    assert run.rounds[1].dataset is None and run.rounds[1].losses == []


def test_the_command_for_a_foreign_adapter_can_be_pasted(
    adapter: Path, tiny_base_repo: str, run_cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    monkeypatch.chdir(tmp_path)
    change(adapter, base_model_name_or_path=tiny_base_repo)
    for command in (
        ["push", "out", "alice/x", "--version", "1.0.0"],
        ["merge", "out", "-o", "m"],
        ["diff", "out", "out"],
    ):
        result = run_cli(*command)
        assert "is an adapter of another tool" in result.stderr
        hint = next(line for line in result.stderr.splitlines() if line.startswith("hint: "))
    words = shlex.split(hint.removeprefix("hint: ").partition(", then")[0])
    assert run_cli(*words[1:]).exit_code == 0
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
def test_an_adopted_adapter_is_evaluated_published_verified_compared_and_merged(
    adopted: Path, run_dir: Path, dataset_dir: Path, repo_id: str, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(adopted, tmp_path / "run"))
    report = hubdpo.evaluate(run, dataset=[str(dataset_dir)])
    assert report.pairs > 0
    hubdpo.push(run, repo_id, version="1.0.0", license="apache-2.0")
    assert hubdpo.verify(f"{repo_id}@v1.0.0").probes.exact
    card = (run / "README.md").read_text()
    assert "as in training" not in card
    for words in ("trained by LLaMA-Factory", "| β | not known |", "| data | not known |", "hubdpo adopt out --base"):
        assert words in card
    assert "/mnt/data" not in card
    assert "the commit with which the adapter was adopted; its own files name none" in card
    hubdpo.merge(f"{repo_id}@v1.0.0", tmp_path / "merged", dtype="float32")
    hubdpo.push(tmp_path / "merged", f"{repo_id}-merged", version="1.0.0", license="apache-2.0")
    assert "trained by a method that is not known" in (tmp_path / "merged" / "README.md").read_text()
    changes = hubdpo.diff(str(run_dir), f"{repo_id}@v1.0.0")
    assert changes.lineage["trained by"].after == "LLaMA-Factory"
    assert changes.same_test_data  # that of the evaluations, as the data of the training are not known


def test_the_licence_of_the_adapter_itself_holds_as_well(adopted: Path, repo_id: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(adopted, tmp_path / "run"))
    manifest = RunManifest.read(run / "run.json")
    assert manifest.adopted is not None and manifest.adopted.license == "other"
    restricted = manifest.adopted.model_copy(update={"license": "cc-by-nc-4.0"})
    manifest.model_copy(update={"adopted": restricted}).write(run / "run.json")
    with pytest.raises(LicenceError, match="the adapter `out`, which was adopted, has the licence `cc-by-nc-4.0`"):
        hubdpo.push(run, repo_id, version="1.0.0")


def test_a_licence_of_its_own_that_is_not_the_bases_is_asked_for(adopted: Path, repo_id: str) -> None:
    with pytest.raises(LicenceError, match="`out` states the licence `other`, and that of its base `apache-2.0`") as on:
        hubdpo.push(adopted, repo_id, version="1.0.0")
    assert "add `--license ID`" in str(on.value.hint)


@pytest.mark.parametrize(
    ("base", "revision", "words"),
    [
        ("alice/base", "b" * 40, "that the adapter was trained on"),
        ("alice/base", None, "with which the adapter was adopted; its own files name none"),
        ("alice/base", "main", "with which the adapter was adopted; its own files name `main`"),
        ("alice/other", "b" * 40, f"with which the adapter was adopted; its own files name `{'b' * 40}`"),
    ],
)
def test_a_commit_is_the_trainings_only_where_the_adapter_names_it(
    adopted: Path, base: str, revision: str | None, words: str
) -> None:
    run = RunManifest.read(adopted / "run.json")
    assert run.adopted is not None
    told = run.adopted.model_copy(update={"named_base": base, "named_revision": revision})
    on = run.base.model_copy(update={"repo_id": "alice/base", "revision": "b" * 40})
    assert commit_words(run.model_copy(update={"adopted": told, "base": on})) == words


@pytest.mark.slow
def test_an_adapter_of_the_hub_is_pinned_to_its_commit(
    adapter: Path, tiny_base_repo: str, repo_id: str, tmp_path: Path
) -> None:
    (adapter / "README.md").write_text("---\nlicense: mit\n---\n")
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=adapter)
    run = hubdpo.adopt(repo_id, tmp_path / "run", base=tiny_base_repo)
    assert run.adopted.source.place == f"{repo_id}@{HfApi().model_info(repo_id).sha}"
    assert (run.adopted.license, run.steps) == ("mit", 4)


@pytest.mark.slow
def test_an_adapter_that_trl_trained_tells_what_trl_writes(
    tiny_base: Path, tiny_base_repo: str, tmp_path: Path
) -> None:
    import trl
    from datasets import Dataset
    from peft import LoraConfig

    turns = {"chosen": "It is a good one, gladly.", "rejected": "No idea."}
    pairs = [
        {name: [{"role": "assistant", "content": text}] for name, text in turns.items()}
        | {"prompt": [{"role": "user", "content": f"Question {number}?"}]}
        for number in range(16)
    ]
    args = trl.DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=4, learning_rate=1e-2, per_device_train_batch_size=4, beta=0.2,
        logging_steps=2, save_steps=4, use_cpu=True, bf16=False, report_to=[],
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=str(tiny_base), args=args, train_dataset=Dataset.from_list(pairs),
        peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    run = hubdpo.adopt(tmp_path / "out", tmp_path / "run", base=tiny_base_repo)
    assert run.adopted is not None
    assert (run.adopted.tool, run.adopted.tool_version, run.adopted.method) == ("TRL", trl.__version__, "DPO")
    assert (run.steps, run.config["lora_r"], run.beta) == (4, 2, None)
    assert run.metrics["rewards/accuracies"] >= 0
    assert "training_args.bin" in run.adopted.left_out


def test_verify_and_diff_of_a_foreign_adapter_name_the_command(
    adapter: Path, run_dir: Path, tiny_base_repo: str, repo_id: str
) -> None:
    change(adapter, base_model_name_or_path=tiny_base_repo)
    (adapter / "README.md").unlink()
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=adapter)
    asks = {
        str(adapter): lambda: hubdpo.verify(adapter), repo_id: lambda: hubdpo.verify(repo_id),
        f"{repo_id} ": lambda: hubdpo.diff(repo_id, str(run_dir)),
    }  # fmt: skip
    for name, ask in asks.items():
        with pytest.raises(HubdpoError) as caught:
            ask()
        assert f"hubdpo adopt {name.strip()} --base {tiny_base_repo} -o run" in str(caught.value.hint)
