"""Several adapters merged at once: the weighted combination of PEFT, of one base, with the licences of all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import hubdpo
from hubdpo.artefacts.folders.lineage import ancestors
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cli.app import app
from hubdpo.errors import ConfigError, LicenceError
from hubdpo.release.inspect import inspect
from tests.near import assert_near
from tests.training.sft import sft_adapter

KINDS: dict[str, dict[str, Any]] = {
    "one": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "two": {"r": 4, "lora_alpha": 12, "target_modules": ["v_proj", "q_proj", "down_proj"]},
    "small": {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj", "q_proj"]},
    "rslora in the first layer": {"r": 4, "target_modules": ["q_proj"], "use_rslora": True, "layers_to_transform": [0]},
    "dora": {"r": 4, "use_dora": True},
}


@pytest.fixture(scope="module")
def runs(tiny_base: Path, tiny_base_repo: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adopted adapters of the tiny base."""
    place = tmp_path_factory.mktemp("several")
    made = {}
    for number, (name, options) in enumerate(KINDS.items()):
        adapter = sft_adapter(tiny_base, place / f"out-{number}", **options)
        made[name] = place / name.replace(" ", "-")
        hubdpo.adopt(adapter, made[name], base=tiny_base_repo, load_in_4bit=False)
    return made


def sum_of(base: Path, parts: list[tuple[Path, float]]) -> dict[str, torch.Tensor]:
    """The weights of a base and the weighted changes of adapters, computed from their files."""
    weights = load_file(base / "model.safetensors")
    for run, share in parts:
        config = RunManifest.read(run / "run.json").config
        root = config["lora_r"] ** (0.5 if config["use_rslora"] else 1)
        factors = load_file(run / "adapter_model.safetensors")
        for name in factors:
            if name.endswith(".lora_A.weight"):
                module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                product = factors[name.replace("lora_A", "lora_B")] @ factors[name]
                weights[f"{module}.weight"] = (
                    weights[f"{module}.weight"] + share * config["lora_alpha"] / root * product
                )
    return weights


@pytest.mark.parametrize(
    ("names", "shares"),
    [
        (("one", "two"), (0.7, 0.3)),
        (("one", "small", "two"), (1.0, -0.5, 0.25)),
        (("rslora in the first layer", "two"), (0.6, 0.4)),
    ],
)  # fmt: skip
def test_cat_is_the_weighted_sum_of_all_changes(
    runs: dict[str, Path], tiny_base: Path, tmp_path: Path, names: tuple[str, ...], shares: tuple[float, ...]
) -> None:
    places = [runs[name] for name in names]
    made = hubdpo.merge(places, tmp_path / "m", weights=list(shares), dtype="float32")
    found, wanted = (
        load_file(tmp_path / "m" / "model.safetensors"),
        sum_of(tiny_base, [*zip(places, shares, strict=True)]),
    )
    for name, weight in found.items():
        assert_near(weight, wanted[name], share=1e-5)
    assert made.check.largest_difference < 1e-3
    assert made.check.adapter_effect > 0.01


def test_a_base_in_16_bits_does_not_round_the_factors(tiny_base: Path, tiny_base_repo: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        adapter = sft_adapter(tiny_base, tmp_path / f"{name}-out", **KINDS[name])
        (adapter / "train.yaml").write_text("stage: dpo\nfinetuning_type: lora\nbf16: true\n")
        hubdpo.adopt(adapter, tmp_path / name, base=tiny_base_repo, load_in_4bit=False)
    parts = [(tmp_path / "one", 0.7), (tmp_path / "two", 0.3)]
    hubdpo.merge([place for place, _ in parts], tmp_path / "m", weights=[0.7, 0.3], dtype="float32")
    found, base = load_file(tmp_path / "m" / "model.safetensors"), load_file(tiny_base / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    change, wanted = found[name] - base[name].bfloat16().float(), sum_of(tiny_base, parts)[name] - base[name]
    assert_near(change, wanted, share=1e-4)


COMBINED = [
    ("linear", {}), ("svd", {}), ("ties", {"density": 0.5}), ("dare_linear", {"density": 0.5, "seed": 3}),
    ("magnitude_prune", {"density": 0.5}), ("dare_ties_svd", {"density": 0.5, "majority_sign_method": "frequency"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), COMBINED)
def test_other_combinations_are_those_of_peft(
    runs: dict[str, Path], tiny_base: Path, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    places = [runs["one"], runs["two"]]
    made = hubdpo.merge(places, tmp_path / "m", weights=[0.8, 0.4], combination_type=kind, dtype="float32", **options)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), str(places[0]))
    model.load_adapter(str(places[1]), "other")
    torch.manual_seed(options.pop("seed", 0))
    model.add_weighted_adapter(["default", "other"], [0.8, 0.4], "sum", combination_type=kind, **options)
    model.set_adapter("sum")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "m")(input_ids=ids).logits
    assert_near(found, wanted, share=1e-4)
    assert made.config["combination_type"] == kind


REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str, str]] = [
    (("one", "two"), {}, "2 adapters and 0 weights are given", "--weights 0.5 --weights 0.5"),
    (("one", "two"), {"weights": [1.0]}, "2 adapters and 1 weight are given", "--weights 0.5 --weights 0.5"),
    (("one",), {"weights": [1.0]}, "`--weights` is for several adapters, and one is given", "leave `--weights` out"),
    (
        ("one", "small"), {"weights": [1, 1], "combination_type": "linear"},
        "`linear` combines adapters of one rank, and these have `one` 4 and `small` 2", "--combination-type cat, or",
    ),
    (("one", "two"), {"weights": [1, 1], "combination_type": "ties"}, "needs the share of values", "--density 0.5"),
    (("one", "two"), {"weights": [1, 1], "density": 0.5}, "so `--density` has no effect", "leave `--density` out, or"),
    (("one", "two"), {"weights": [math.nan, 1]}, "nan is no weight: -100 to 100 are", "--weights 0.5 --weights 0.5"),
    (("one", "two"), {"weights": [1, math.inf]}, "inf is no weight", "--weights 0.5"),
    (("one", "two"), {"weights": [1, -1e30]}, "-1e\\+30 is no weight", "--weights 0.5"),
    (("one", "two"), {"weights": [0, 0]}, "all weights are 0, which would give", "--weights 0.5 --weights 0.5"),
    (("one", "dora"), {"weights": [1, 1]}, "`dora` is DoRA", "merge it alone"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "options", "message", "hint"), REFUSED)
def test_what_cannot_be_combined_is_refused(
    runs: dict[str, Path], tmp_path: Path, names: tuple[str, ...], options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        hubdpo.merge([runs[name] for name in names], tmp_path / "m", **options)
    assert hint in str(caught.value.hint)
    assert not (tmp_path / "m").exists()


def test_adapters_of_two_bases_or_precisions_are_refused_by_name(
    runs: dict[str, Path], run_dir: Path, tiny_base: Path, tmp_path: Path
) -> None:
    local = Path(shutil.copytree(tiny_base, tmp_path / "copy"))
    hubdpo.adopt(sft_adapter(tiny_base, tmp_path / "out"), tmp_path / "local", base=str(local))
    with pytest.raises(ConfigError, match="`one` was trained on alice/tiny-qwen2@.*, and `local` was trained on copy"):
        hubdpo.merge([runs["one"], tmp_path / "local"], tmp_path / "m", weights=[1, 1])
    with pytest.raises(ConfigError, match="`run` was trained on NF4 weights, and `one` was not"):
        hubdpo.merge([runs["one"], run_dir], tmp_path / "m", weights=[1, 1])


def test_weights_that_an_adapter_may_not_fit_are_told(
    tiny_base: Path, tiny_base_repo: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hubdpo.adopt(sft_adapter(tiny_base, tmp_path / "out"), tmp_path / "unknown", base=tiny_base_repo)
    hubdpo.merge([run_dir, tmp_path / "unknown"], tmp_path / "m", weights=[0.5, 0.5])
    said = " ".join(capsys.readouterr().err.split())
    assert "`unknown` is merged into NF4 weights; it is not known whether it was trained on them" in said
    card = (tmp_path / "m" / "README.md").read_text()
    assert ", NF4 weights, de-quantised |" in card
    assert "method not known; data not known; quantisation of the base model in training not known |" in card
    assert "quantisation of the base model in training NF4 |" in card
    assert "trained with DPO and a method that is not known on" in card


def test_record_card_licence_and_lineage_have_every_adapter(
    runs: dict[str, Path], dataset_dir: Path, run_dir: Path, repo_id: str, tmp_path: Path
) -> None:
    merged, places = tmp_path / "m", [runs["one"], run_dir]
    hubdpo.merge(places, merged, weights=[0.75, 0.5], base_weights="original", dtype="float32")
    made = MergeManifest.read(merged / "merge.json")
    assert [(part.adapter.name, part.weight, part.method) for part in made.parts] == [
        ("one", 0.75, None), ("run", 0.5, "DPO"),
    ]  # fmt: skip
    again = hubdpo.merge(places, merged, weights=[0.75, 0.5], base_weights="original", dtype="float32")
    assert again == made  # up to date
    facts = inspect(str(merged)).facts
    named = {name: value for name, value in facts.items() if name.startswith(("adapter", "combined"))}
    assert named == {
        "adapter": "one", "adapter weighs": 0.75, "adapter 2": "run", "adapter 2 weighs": 0.5, "combined by": "cat",
    }  # fmt: skip
    options = ["--weights", "0.75", "--weights", "0.5", "--base-weights", "original", "--dtype", "float32"]
    done = CliRunner().invoke(app, ["merge", *map(str, places), "--output-dir", str(merged), *options])
    assert "differ from those of 2 adapters together by" in " ".join(done.output.split())
    with pytest.raises(ConfigError, match="holds another merge, of 0.75 × one \\+ 0.5 × run"):
        hubdpo.merge(places, merged, weights=[0.5, 0.5], base_weights="original", dtype="float32")
    hubdpo.push(merged, repo_id, version="1.0.0")
    card = (merged / "README.md").read_text()
    for words in (
        "2 adapters of [alice/tiny-qwen2]", "| adapter 1, weight 0.75 | `one`", "| adapter 2, weight 0.5 | `run`",
        "`cat`, the weighted sum of their changes", "PEFT's weighted adapter", "Of adapter 2: The licence of",
    ):  # fmt: skip
        assert words in card
    ancestor = ancestors(merged)[0]
    assert (ancestor.adapter, [other.name for other in ancestor.others], ancestor.weights) == (
        "one",
        ["run"],
        [0.75, 0.5],
    )
    hubdpo.merge(places, tmp_path / "n", weights=[0.5, 0.5], base_weights="original", dtype="float32")
    changes = hubdpo.diff(f"{repo_id}@v1.0.0", str(tmp_path / "n"))
    assert "0.75 × `one`" in changes.summary and "0.5 × `one`" in changes.summary
    assert changes.lineage["adapter weighs"].before == 0.75
    other = MergeManifest.read(tmp_path / "n" / "merge.json")
    assert other.parts[1].dataset is not None
    other.parts[1].dataset.license = "cc-by-nc-4.0"
    other.write(tmp_path / "n" / "merge.json")
    with pytest.raises(LicenceError, match="the training data have the licence `cc-by-nc-4.0`"):
        hubdpo.push(tmp_path / "n", repo_id, version="1.1.0")
