"""What the files beside an adapter tell of its training; what they do not tell stays unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubdpo.adoption.facts import Facts, gather
from hubdpo.adoption.find import find_adapter
from hubdpo.adoption.readme import read_card
from hubdpo.errors import ArtefactError
from tests.adoption import left
from tests.training.sft import change, sft_adapter


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    return change(sft_adapter(tiny_base, tmp_path / "out"), base_model_name_or_path="/mnt/data/base")


def facts_of(folder: Path) -> Facts:
    return gather(find_adapter(str(folder)))


def test_without_other_files_the_weights_alone_are_known(adapter: Path) -> None:
    facts = facts_of(adapter)
    assert facts.options == {
        "lora_r": 4, "lora_alpha": 7, "lora_dropout": 0.05, "lora_target_modules": ["down_proj", "q_proj", "v_proj"],
        "layers_to_transform": None, "use_rslora": False, "use_dora": False,
    }  # fmt: skip
    assert (facts.tool, facts.method, facts.steps, facts.seconds, facts.log) == (None, None, None, None, [])
    assert facts.named_base is None  # a path of the machine that trained it is not published


def test_llama_factory_tells_options_steps_and_log(adapter: Path) -> None:
    facts = facts_of(left.llama_factory(adapter))
    assert (facts.tool, facts.tool_version, facts.method) == ("LLaMA-Factory", None, None)
    told = {name: facts.options.get(name) for name in ("learning_rate", "warmup_ratio", "optim", "seed", "beta")}
    assert told == {
        "learning_rate": 0.001, "warmup_ratio": 0.1, "optim": "adamw_torch_fused", "seed": 7, "beta": None,
    }  # fmt: skip
    assert (facts.steps, facts.seconds, facts.last["loss"]) == (4, 12.5, 0.61)
    assert facts.log[0] == {"step": 2, "epoch": 0.5, "learning_rate": 5e-4, "loss": 0.69, "rewards/accuracies": 0.5}
    assert facts.versions == {"peft": facts.versions["peft"], "transformers": "5.2.0"}


def test_a_config_of_the_tool_tells_what_its_card_does_not(adapter: Path) -> None:
    (left.llama_factory(adapter) / "dpo.yaml").write_text(left.LLAMA_FACTORY_CONFIG)
    facts = facts_of(adapter)
    assert facts.method == "DPO"
    assert [facts.options[name] for name in ("beta", "loss_type", "max_length", "load_in_4bit")] == [
        0.2, ["sigmoid"], 256, True,
    ]  # fmt: skip
    assert "dpo.yaml" in facts.read


@pytest.mark.parametrize(("line", "known"), [("quantization_bit: 4", True), ("", False), ("quantization_bit: 8", None)])
def test_a_config_without_quantisation_had_none(adapter: Path, line: str, known: bool | None) -> None:
    config = left.LLAMA_FACTORY_CONFIG.replace("quantization_bit: 4", line)
    (adapter / "dpo.yaml").write_text(config)
    assert facts_of(adapter).options.get("load_in_4bit") is known


def test_files_that_contradict_each_other_are_named(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = left.LLAMA_FACTORY_CONFIG.replace("1.0e-3", "2.0e-3")
    (left.llama_factory(adapter) / "dpo.yaml").write_text(config)
    assert facts_of(adapter).options["learning_rate"] == 0.001
    assert "`dpo.yaml` says learning_rate 0.002, and another file 0.001, which is taken" in capsys.readouterr().err


def test_a_yaml_file_of_no_trainer_is_left_out(adapter: Path) -> None:
    (adapter / "notes.yaml").write_text("learning_rate: 1.0\n")
    facts = facts_of(adapter)
    assert "learning_rate" not in facts.options
    assert "notes.yaml" not in facts.read


def test_axolotl_tells_its_version_and_config(adapter: Path) -> None:
    (adapter / "README.md").write_text(left.AXOLOTL)
    facts = facts_of(adapter)
    assert (facts.tool, facts.tool_version, facts.method, facts.datasets) == ("axolotl", "0.9.1", "DPO", ["acme/prefs"])
    known = ("beta", "max_length", "load_in_4bit", "num_processes", "num_train_epochs", "warmup_steps", "learning_rate")
    assert [facts.options[name] for name in known] == [0.3, 512, True, 8, 3.0, 10, 5e-6]


def test_unsloth_is_known_by_its_mark_and_nf4_by_its_base(adapter: Path) -> None:
    change(adapter, base_model_name_or_path="unsloth/x-bnb-4bit", auto_mapping={"unsloth_fixed": True})
    facts = facts_of(adapter)
    assert (facts.tool, facts.named_base, facts.options["load_in_4bit"]) == ("Unsloth", "unsloth/x-bnb-4bit", True)
    assert read_card(left.UNSLOTH).tool == "Unsloth"  # not TRL, on which it builds


def test_the_loss_of_supervised_fine_tuning_is_not_taken(adapter: Path) -> None:
    (adapter / "sft.yaml").write_text(left.LLAMA_FACTORY_CONFIG.replace("stage: dpo", "stage: sft"))
    facts = facts_of(adapter)
    assert facts.method == "SFT"
    assert not {"loss_type", "beta"} & facts.options.keys()


def test_the_state_of_a_checkpoint_counts_where_its_weights_are_these(adapter: Path) -> None:
    for step, weights in ((2, b"other"), (4, (adapter / "adapter_model.safetensors").read_bytes())):
        (adapter / f"checkpoint-{step}").mkdir()
        (adapter / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        (adapter / f"checkpoint-{step}" / "adapter_model.safetensors").write_bytes(weights)
    assert facts_of(adapter).steps == 4
    (adapter / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"another")
    assert facts_of(adapter).steps is None


@pytest.mark.parametrize(
    "state",
    [
        "[]", "{", '{"global_step": -1, "log_history": {"a": 1}}',
        '{"global_step": 1.5, "log_history": ["x", {"step": ""}]}',
        '{"log_history": [{"step": 1.5, "loss": 1}]}',
    ],
)  # fmt: skip
def test_a_state_that_makes_no_sense_tells_nothing(adapter: Path, state: str) -> None:
    (adapter / "trainer_state.json").write_text(state)
    facts = facts_of(adapter)
    assert (facts.steps, facts.log) == (None, [])


def test_a_number_that_json_does_not_have_is_not_in_the_log(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = '{"step": 1, "loss": NaN, "grad_norm": Infinity, "learning_rate": 0.1}'
    (adapter / "trainer_state.json").write_text(f'{{"log_history": [{line}]}}')
    facts = facts_of(adapter)
    assert facts.log == [{"step": 1, "learning_rate": 0.1}]
    assert facts.last == {"learning_rate": 0.1}
    assert "left out of the log: 2 numbers of `trainer_state.json`, as not finite" in capsys.readouterr().err


def test_a_time_below_zero_is_none(adapter: Path) -> None:
    (adapter / "trainer_state.json").write_text('{"log_history": [{"step": 1, "train_runtime": -5}]}')
    (adapter / "all_results.json").write_text('{"train_runtime": -5.0}')
    assert facts_of(adapter).seconds is None


@pytest.mark.parametrize("alpha", [0, -2.0])
def test_an_alpha_of_zero_is_not_the_default(adapter: Path, alpha: float) -> None:
    assert facts_of(change(adapter, lora_alpha=alpha)).options["lora_alpha"] == alpha


def test_devices_are_counted_only_where_the_trainer_wrote_its_whole_list(adapter: Path) -> None:
    (adapter / "README.md").write_text("### Training hyperparameters\n\n- learning_rate: 0.5\n")
    assert not {"gradient_accumulation_steps", "num_processes"} & facts_of(adapter).options.keys()
    (adapter / "README.md").write_text(left.LLAMA_FACTORY)
    assert facts_of(adapter).options["gradient_accumulation_steps"] == 1


@pytest.mark.parametrize(("schedule", "known"), [("banana", None), ("cosine", "cosine"), ("rex", "rex")])
def test_a_schedule_is_one_of_those_that_there_are(adapter: Path, schedule: str, known: str | None) -> None:
    text = f"### Training hyperparameters\n\n- learning_rate: 0.5\n- lr_scheduler_type: {schedule}\n"
    (adapter / "README.md").write_text(text)
    assert facts_of(adapter).options.get("lr_scheduler_type") == known


NO_VALUES = [
    "- learning_rate: inf", "- learning_rate: much", "- learning_rate: -1", "- seed: 99999999999999999999999999",
    "- seed: 1e3", "- num_epochs: [1]", "- optimizer: Use \x1b",
]  # fmt: skip


@pytest.mark.parametrize("line", NO_VALUES)
def test_a_value_that_is_none_is_not_taken(adapter: Path, line: str) -> None:
    (adapter / "README.md").write_text(f"### Training hyperparameters\n\n- learning_rate: 0.5\n{line}\n")
    assert not {"seed", "num_train_epochs", "optim"} & facts_of(adapter).options.keys()
    assert facts_of(adapter).options.get("learning_rate") in (0.5, None)


def test_the_newest_checkpoint_is_named_where_the_folder_has_no_adapter(adapter: Path) -> None:
    for step in (9, 10):
        (adapter.parent / "all" / f"checkpoint-{step}").mkdir(parents=True)
        (adapter.parent / "all" / f"checkpoint-{step}" / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtefactError, match="holds no adapter") as caught:
        find_adapter(str(adapter.parent / "all"))
    assert f"hubdpo adopt {adapter.parent}/all/checkpoint-10" in str(caught.value.hint)
