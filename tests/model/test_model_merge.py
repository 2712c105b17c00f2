"""A merged model: the adapter's log-probabilities from plain transformers, or nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import hubdpo
from hubdpo import console, push, verify
from hubdpo.artefacts.manifests.evaluation import Probe, Probes
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cli.app import app
from hubdpo.config import MergeConfig
from hubdpo.errors import ArtefactError, ConfigError, LicenceError, VerificationFailed
from hubdpo.model.merge.check import Merged, compare, computing_in_float32
from hubdpo.model.merge.merge import _for_older_readers, merge
from hubdpo.model.merge.weights import plan_weights
from hubdpo.release.diff.diff import diff
from hubdpo.release.inspect import inspect
from hubdpo.release.list import releases
from tests.near import assert_near
from tests.release.made import scale_adapter

IDS = torch.arange(40)[None]


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory, run_dir: Path) -> Path:
    """The session's run, merged in float32."""
    folder = tmp_path_factory.mktemp("merged") / "model"
    merge(adapter=str(run_dir), output_dir=folder, dtype="float32")
    return folder


@pytest.fixture
def own(merged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(merged, tmp_path / "own", ignore=shutil.ignore_patterns("release.json")))


def log_probs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.float().log_softmax(dim=-1)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def test_plain_transformers_gives_the_log_probs_of_the_adapter(merged: Path, run_dir: Path) -> None:
    adapter = hubdpo.load_adapter(run_dir).model
    found = log_probs(AutoModelForCausalLM.from_pretrained(merged))
    assert_near(found, log_probs(adapter), share=1e-5)
    with adapter.disable_adapter():
        assert (found - log_probs(adapter)).abs().max() > 1e-2


def test_all_files_have_the_rights_that_the_umask_leaves(merged: Path) -> None:
    assert {path.stat().st_mode for path in merged.iterdir() if path.is_file()} == {
        (merged / "merge.json").stat().st_mode
    }


def test_the_weights_are_those_of_peft_on_the_dequantised_base(merged: Path, run_dir: Path) -> None:
    adapter = hubdpo.load_adapter(run_dir).model
    base = adapter.unload().dequantize()
    from peft import PeftModel

    expected = PeftModel.from_pretrained(base, run_dir).merge_and_unload().state_dict()
    found = weights_of(merged)
    assert set(found) == set(expected) - {"lm_head.weight"}  # tied to the embedding
    for name in found:
        assert_near(found[name], expected[name], share=1e-6, name=name)


def test_the_original_weights_on_request(run_dir: Path, merged: Path, tiny_base: Path, tmp_path: Path) -> None:
    made = merge(adapter=str(run_dir), output_dir=tmp_path / "m", dtype="float32", base_weights="original")
    assert not made.dequantised
    found, base = weights_of(tmp_path / "m"), weights_of(tiny_base)
    assert torch.equal(found["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert 0 < (found[name] - base[name]).abs().max() < 0.01
    between = diff(str(merged), str(tmp_path / "m"))
    assert between.config["base_weights"].after == "original"
    assert between.weights is not None
    assert between.weights.modules["model.embed_tokens.weight"].difference == 0
    expected = torch.linalg.norm(found[name].double() - weights_of(merged)[name].double()).item()
    assert between.weights.modules[name].difference == pytest.approx(expected)


def test_bfloat16_is_the_default_and_is_told(run_dir: Path, tmp_path: Path) -> None:
    made = merge(adapter=str(run_dir), output_dir=tmp_path / "m")
    assert {value.dtype for value in weights_of(tmp_path / "m").values()} == {torch.bfloat16}
    settings = json.loads((tmp_path / "m" / "config.json").read_text())
    assert "bfloat16" in (settings.get("dtype"), settings.get("torch_dtype"))
    assert 0 < made.check.largest_difference <= made.check.tolerance
    assert made.check.share_lost < 0.5


def test_a_model_is_shared_out_over_files(run_dir: Path, merged: Path, tmp_path: Path) -> None:
    merge(adapter=str(run_dir), output_dir=tmp_path / "m", dtype="float32", max_shard_size="150KB")
    shards = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(shards) > 2
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    whole = weights_of(merged)
    assert set(index["weight_map"]) == set(whole)
    assert index["metadata"]["total_size"] == sum(value.numel() * 4 for value in whole.values())
    assert all((tmp_path / "m" / name).stat().st_size < 160_000 for name in shards[1:])
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "m").state_dict()
    assert all(torch.equal(found[name], value) for name, value in whole.items())


@pytest.mark.parametrize("dtype", ["nf4", "int4", "4bit", "8-bit", "fp4"])
def test_a_merge_into_few_bits_is_refused(dtype: str) -> None:
    with pytest.raises(ConfigError, match="lose most of the adapter"):
        MergeConfig.build({"adapter": "run", "output_dir": "m", "dtype": dtype})


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"max_shard_size": "5 GB"}, {"tolerance": 0}])
def test_other_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MergeConfig.build({"adapter": "run", "output_dir": "m", **options})


def test_a_base_that_is_stored_quantised_is_refused(run: Path, tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**settings, "quantization_config": {"load_in_4bit": True}}))
    (run / "local.json").write_text(json.dumps({"model_name_or_path": str(base)}))
    with pytest.raises(ArtefactError, match="stored quantised"):
        merge(adapter=str(run), output_dir=tmp_path / "m")


def test_nothing_is_left_when_the_log_probs_differ(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="nothing was written") as caught:
        merge(adapter=str(run_dir), output_dir=tmp_path / "out" / "m", tolerance=1e-9)
    assert "--dtype float32" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_rounding_takes_away_is_not_merged(run: Path, tmp_path: Path) -> None:
    scale_adapter(run, 1e-3)
    with pytest.raises(VerificationFailed, match="rounding to bfloat16 takes") as caught:
        merge(adapter=str(run), output_dir=tmp_path / "m")
    assert caught.value.hint == "--dtype float32"
    assert merge(adapter=str(run), output_dir=tmp_path / "m", dtype="float32").check.share_lost < 0.5


def test_dora_is_merged_as_peft_merges_it(tiny_base: Path) -> None:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32),
        LoraConfig(target_modules=["q_proj"], use_dora=True, init_lora_weights=False),
    )
    for name, weight in model.named_parameters():
        if "magnitude" in name:
            weight.data *= 1.5
    [weights] = plan_weights(model, "float32", 10**9).files
    found = {weight.name: weight.make() for weight in weights}
    expected = model.merge_and_unload().state_dict()
    assert_near(found[name := "model.layers.0.self_attn.q_proj.weight"], expected[name], share=1e-6)


def test_another_bias_is_refused(tiny_base: Path) -> None:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base), LoraConfig(target_modules=["q_proj"], lora_bias=True)
    )
    with pytest.raises(ArtefactError, match="lora_bias"):
        plan_weights(model, "float32", 10**9)


def test_a_finished_merge_is_not_made_again(merged: Path, run_dir: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in merged.rglob("*")}
    merge(adapter=str(run_dir), output_dir=merged, dtype="float32")
    assert {path: path.stat().st_mtime_ns for path in merged.rglob("*")} == before
    with pytest.raises(ConfigError, match="another merge"):
        merge(adapter=str(run_dir), output_dir=merged, dtype="bfloat16")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a merged model"):
        merge(adapter=str(run_dir), output_dir=tmp_path)


def test_a_run_that_is_not_finished_is_refused(run: Path, tmp_path: Path) -> None:
    manifest = RunManifest.read(run / "run.json")
    manifest.model_copy(update={"status": "running"}).write(run / "run.json")
    with pytest.raises(ArtefactError, match="not finished"):
        merge(adapter=str(run), output_dir=tmp_path / "m")


def test_a_merge_of_a_release_is_published_and_loads_plainly(
    run: Path, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(folder=run, repo=repo_id, version="1.2.0", check="hashes")
    made = merge(adapter=f"{repo_id}@v1.2.0", output_dir=tmp_path / "m", dtype="float32", max_shard_size="400KB")
    assert (made.adapter.repo_id, made.adapter.version) == (repo_id, "v1.2.0")
    release = push(folder=tmp_path / "m", repo=f"{repo_id}-merged", version="1.0.0")
    assert release.kind == "merged"
    found = verify(f"{repo_id}-merged@v1.0.0")
    assert found.probes is not None and found.probes.exact
    (listed,) = releases(f"{repo_id}-merged")
    assert listed.kind == "merged"

    model = AutoModelForCausalLM.from_pretrained(f"{repo_id}-merged", revision="v1.0.0")
    assert_near(log_probs(model), log_probs(hubdpo.load_adapter(run).model), share=1e-5)

    card = ModelCard.load(f"{repo_id}-merged")
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (made.base.repo_id, "merge")
    assert (data["library_name"], data["license"]) == ("transformers", "apache-2.0")
    assert repo_id in card.text
    assert re.search(r"weights take [\d.]+ [kM]B of memory, and the cache [\d.]+ kB for each 1,000 tokens", card.text)
    assert "| v1.0.0 | this release | first release |" in card.text
    assert HfApi().model_info(f"{repo_id}-merged").library_name == "transformers"
    (block,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out
    (commands,) = re.findall(r"```bash\n(.*?)```", card.text, re.DOTALL)
    name = f"{repo_id}-merged".partition("/")[2]
    assert commands.startswith(f"hf download {repo_id}-merged --revision v1.0.0 --local-dir {name}\n")
    assert f"\ntransformers serve ./{name}\n" in commands

    other = Path(shutil.copytree(tmp_path / "m", tmp_path / "again"))
    assert push(folder=other, repo=f"{repo_id}-merged", version="1.0.0").commit == release.commit
    assert diff(str(tmp_path / "m"), f"{repo_id}-merged@v1.0.0").files == {}
    looked = inspect(f"{repo_id}-merged@v1.0.0")
    assert (looked.kind, looked.findings) == ("merged", [])
    assert looked.facts["adapter version"] == "v1.2.0"


def test_an_edited_model_is_not_published(own: Path, repo_id: str) -> None:
    with (own / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(ArtefactError, match=r"config.json. in .* was changed"):
        push(folder=own, repo=repo_id, version="1.0.0")


def test_an_unknown_licence_needs_the_publishers_word(own: Path, repo_id: str) -> None:
    made = MergeManifest.read(own / "merge.json")
    made.model_copy(update={"base": made.base.model_copy(update={"license": None})}).write(own / "merge.json")
    with pytest.raises(LicenceError):
        push(folder=own, repo=repo_id, version="1.0.0")


def test_a_merge_into_a_local_base_needs_its_hub_id(own: Path, repo_id: str, tiny_base_repo: str) -> None:
    made = MergeManifest.read(own / "merge.json")
    base = made.base.model_copy(update={"repo_id": None, "revision": None, "name": "folder"})
    made.model_copy(update={"base": base}).write(own / "merge.json")
    with pytest.raises(ConfigError, match="local base"):
        push(folder=own, repo=repo_id, version="1.0.0")
    push(folder=own, repo=repo_id, version="1.0.0", base_model=tiny_base_repo, check="hashes")
    assert ModelCard.load(repo_id).data.base_model == tiny_base_repo


def test_verify_loads_a_merged_model(own: Path, repo_id: str) -> None:
    weights = load_file(own / "model.safetensors")
    save_file({k: v * 1.01 for k, v in weights.items()}, own / "model.safetensors", metadata={"format": "pt"})
    made = MergeManifest.read(own / "merge.json")
    from hubdpo.artefacts.manifests.manifest import file_entry

    files = {**made.files, "model.safetensors": file_entry(own / "model.safetensors")}
    made.model_copy(update={"files": files}).write(own / "merge.json")
    with pytest.raises(VerificationFailed, match="log-probabilities differ"):
        push(folder=own, repo=repo_id, version="1.0.0")


def test_the_command_writes_one_object(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.output, "format", console.Format.human)
    arguments = ["merge", str(run_dir), "-o", str(tmp_path / "m"), "--dtype", "float32", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["check"]["largest_difference"] < 1e-3


def test_sharp_logits_are_no_fault_of_the_merge(run: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Random models have flat logits. Those of a trained one are tens, and 16-bit arithmetic moves them by tenths."""
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] *= 150
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    (run / "local.json").write_text(json.dumps({"model_name_or_path": str(base)}))
    check = merge(adapter=str(run), output_dir=tmp_path / "m").check
    assert check.noise is not None and check.noise > 0.25
    assert check.largest_difference <= check.tolerance
    assert check.share_lost < 0.2


def told(*values: float, dtype: str = "float32") -> Probes:
    probe = Probe(prompt="q", answer="a", prompt_ids=[1], answer_ids=[2] * len(values), log_probs=list(values))
    return Probes(environment={"dtype": dtype}, probes=[probe])


@pytest.mark.parametrize(
    ("loaded", "fine", "passes"),
    [
        ((-1.0, -2.0), (-1.0, -2.0), True),
        ((-1.3, -2.3), (-1.01, -2.01), True),  # the arithmetic is to blame
        ((-1.3, -2.3), (-1.7, -2.7), True),
        ((-1.3, -2.3), (-1.3, -2.3), False),  # the weights are
        ((-1.9, -2.8), (-1.95, -2.85), False),
        ((float("nan"), -2.0), (float("nan"), -2.0), False),
    ],
)
def test_a_difference_may_be_twice_the_noise(loaded: Any, fine: Any, passes: bool) -> None:
    there = told(-1.0, -2.0), told(-3.0, -5.0)
    written = Merged(told(*loaded), told(*fine), told(*loaded))
    config = MergeConfig.build({"adapter": "run", "output_dir": "m"})
    if passes:
        assert compare(*there, written, config).share_lost < 0.5
        return
    with pytest.raises(VerificationFailed, match="does not give the adapter's"):
        compare(*there, written, config)


@pytest.mark.parametrize(("merged_value", "passes"), [(-1.0004, True), (-1.0006, False)])
def test_a_merge_may_lose_half_of_what_the_adapter_changes(merged_value: float, passes: bool) -> None:
    there, value = (told(-1.0), told(-1.001)), told(merged_value)
    config = MergeConfig.build({"adapter": "run", "output_dir": "m"})
    if passes:
        assert compare(*there, Merged(value, value, value), config).share_lost == pytest.approx(0.4)
        return
    with pytest.raises(VerificationFailed, match="rounding to bfloat16 takes 60% of what the adapter changes"):
        compare(*there, Merged(value, value, value), config)


def test_an_adapter_in_16_bits_is_compared_in_16_bits() -> None:
    there = told(-1.3, dtype="bfloat16"), told(-5.0, dtype="bfloat16")
    written = Merged(told(-1.3), told(-1.0), told(-1.3))
    config = MergeConfig.build({"adapter": "run", "output_dir": "m"})
    assert compare(*there, written, config).largest_difference == 0
    lost = Merged(told(-5.0), told(-5.0), told(-5.0))
    with pytest.raises(VerificationFailed):
        compare(*there, lost, config)


def test_computing_in_float32_leaves_the_weights_as_they_were(merged: Path) -> None:
    coarse = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.bfloat16).eval()
    before = {name: value.clone() for name, value in coarse.state_dict().items()}
    fine = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.bfloat16).eval().float()
    with computing_in_float32(coarse):
        assert_near(log_probs(coarse), log_probs(fine), share=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in coarse.state_dict().items())


def test_programs_that_read_the_fields_of_transformers_4_find_the_rotation(merged: Path) -> None:
    # MLX reads no rope_parameters of most families, and takes 10,000
    config = json.loads((merged / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]


def test_scaled_rotations_keep_their_scale_in_both_forms() -> None:
    scaled = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
    assert _for_older_readers({"rope_parameters": scaled}) == {
        "rope_theta": 1e6, "rope_scaling": scaled, "rope_parameters": scaled,
    }  # fmt: skip
    by_layer = {"rope_parameters": {"full_attention": scaled}}
    assert _for_older_readers(by_layer) == by_layer
