"""Cards: valid for the Hub, true to the manifests, and closed to what the data say."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, HfApi, ModelCard

from hubdpo import prepare, push
from hubdpo.cards.dataset_card import card_for, parse_card, shipped_cards
from hubdpo.cards.fences import fence, visible
from hubdpo.cards.licences import adapter_licence, data_remark
from hubdpo.data.converters import NAMES
from hubdpo.errors import ConfigError, LicenceError
from hubdpo.loopback.cards import card_data
from hubdpo.manifest import BaseRef, EvalReport, PrepareManifest, RunManifest

BASE = BaseRef(name="a/b", repo_id="a/b", revision="0" * 40, license="apache-2.0")


@pytest.mark.parametrize("text", ["plain", "```", "````\n# out", "`" * 50, "a```b````c\n~~~"])
def test_a_fence_is_longer_than_what_it_holds(text: str) -> None:
    lines = fence(text).split("\n")
    ticks = lines[-1]
    assert lines[0] == ticks + "text"
    assert set(ticks) == {"`"}
    assert max(map(len, re.findall("`+", "\n".join(lines[1:-1]))), default=0) < len(ticks)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\u202eb", "a\\u202eb"), ("\x1b[31m", "\\u001b[31m"), ("a\u200bb", "a\\u200bb"), ("é\n\t名", "é\n\t名")],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("name", NAMES)
def test_every_converter_has_a_card(name: str) -> None:
    card = card_for(name)
    assert card.facts["format"]
    assert "Provenance" in card.body


@pytest.mark.parametrize("path", sorted(shipped_cards().glob("*.md")), ids=lambda path: path.stem)
def test_a_card_is_of_a_converter_or_of_a_source_that_one_reads(path: Path) -> None:
    card = parse_card(path.read_text(), path.stem)
    assert path.stem in NAMES or (card.facts["format"] in NAMES and card.facts["source_datasets"])


def test_a_known_source_brings_its_own_card() -> None:
    card = card_for("scored", sources=["hf://datasets/openbmb/UltraFeedback@0123/train.parquet"])
    assert (card.license, card.facts["source_datasets"]) == ("mit", ["openbmb/UltraFeedback"])
    assert "2,628" in card.body


def test_rows_of_two_sources_take_the_card_of_their_format() -> None:
    sources = [f"hf://datasets/{name}@0/a.parquet" for name in ("openbmb/UltraFeedback", "nvidia/HelpSteer2")]
    assert card_for("scored", sources=sources).license is None


def test_a_shipped_card_can_be_named() -> None:
    assert card_for("voted", "shp").facts["source_datasets"] == ["stanfordnlp/SHP"]


def test_a_card_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="ultrafeedbak") as caught:
        card_for("scored", "ultrafeedbak")
    assert "ultrafeedback" in (caught.value.hint or "")


def test_the_dataset_card_says_what_the_manifest_says(dataset_dir: Path) -> None:
    card = DatasetCard.load(dataset_dir / "README.md")
    manifest = PrepareManifest.read(dataset_dir / "prepare.json")
    splits = {split["name"]: split["num_examples"] for split in card.data.to_dict()["dataset_info"]["splits"]}
    assert splits == manifest.splits
    assert card.data.license == "mit"
    assert f"| **kept** | **{manifest.funnel.kept}** |" in card.text
    assert card_data(card.content)


def test_a_row_cannot_leave_its_fence(tmp_path: Path) -> None:
    evil = "```\\n\\n# injected <img src=x> ![x](http://evil)"
    (tmp_path / "raw.jsonl").write_text(f'{{"prompt": "{evil}", "chosen": "a", "rejected": "b"}}\n')
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    text = (tmp_path / "out" / "README.md").read_text()
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "injected" in text
    assert "injected" not in outside


@pytest.mark.slow
def test_20_000_texts_stay_inside_their_fence_for_a_markdown_parser() -> None:
    from markdown_it import MarkdownIt

    draw = random.Random(0)
    parser = MarkdownIt("commonmark")
    parts = [
        "```", "````", "~~~", "`", "\n", "\n\n", "    ", "\t", "> ", "- ", "1. ", "# h", "<script>", "<!--", "-->",
        "![x](y)", "---", "</details>", "\r", "\u2028", "\x0b", "\0", "text", "|", "\\", "&lt;", "\x85", "\u202e",
    ]  # fmt: skip
    for _ in range(20_000):
        text = "".join(draw.choices(parts, k=draw.randint(1, 14)))
        tokens = parser.parse(f"before\n\n{fence(text)}\n\nafter\n")
        assert [token.type for token in tokens] == [
            "paragraph_open", "inline", "paragraph_close", "fence", "paragraph_open", "inline", "paragraph_close",
        ], text  # fmt: skip


def test_ones_own_card_gives_licence_and_words(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "card.md").write_text("---\nlicense: cc0-1.0\nlanguage: [fr]\n---\nMade of {{ pairs }} pairs by me.\n")
    manifest = prepare(
        source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", card=tmp_path / "card.md", test_size=0
    )
    assert (manifest.license, manifest.language) == ("cc0-1.0", ["fr"])
    assert "Made of 1 pairs by me." in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("text", ["no front matter", "---\n- a\n---\n", "---\na: [\n---\n"])
def test_a_card_without_front_matter_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="mine"):
        parse_card(text, "mine")


def test_the_model_card_is_valid_and_true(run_dir: Path, repo_id: str) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    card = ModelCard.load(repo_id)
    run, report = RunManifest.read(run_dir / "run.json"), EvalReport.read(run_dir / "eval.json")
    data = card.data.to_dict()
    assert data["base_model"] == run.base.repo_id
    assert (data["library_name"], data["base_model_relation"], data["license"]) == ("peft", "adapter", "apache-2.0")
    values = [result.metric_value for result in card.data.eval_results or []]
    assert values == [round(report.adapter_accuracy.value, 4), round(report.reward_accuracy.value, 4)]
    assert f"{100 * report.longer_answer_accuracy.value:.1f} %" in card.text
    assert "None" not in card.text


@pytest.mark.slow
def test_the_python_of_the_model_card_runs(run_dir: Path, repo_id: str, fresh_hf_home: dict[str, str]) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    blocks = re.findall(r"```python\n(.*?)```", ModelCard.load(repo_id).text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], env=fresh_hf_home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_of_the_model_card_trains_the_same_adapter(
    run_dir: Path, dataset_dir: Path, repo_id: str, tmp_path: Path
) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    (command,) = re.findall(r"```bash\n(hubdpo train.*?)```", ModelCard.load(repo_id).text, re.DOTALL)
    arguments = command.replace("\\\n", " ").split()[1:]
    arguments[arguments.index("--dataset") + 1] = str(dataset_dir)
    code = "from hubdpo.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = "adapter_model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (run_dir / name).read_bytes()


def test_the_card_of_a_repo_is_taken_by_the_hub(run_dir: Path, repo_id: str) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    front = yaml.safe_load(ModelCard.load(repo_id).content.split("---")[1])
    assert HfApi().model_info(repo_id).library_name == front["library_name"]


def test_a_licence_is_never_guessed() -> None:
    with pytest.raises(LicenceError, match="states no licence"):
        adapter_licence(BASE.model_copy(update={"license": None}), None, None)


@pytest.mark.parametrize("data", ["cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0"])
def test_data_that_forbid_uses_need_the_publishers_word(data: str) -> None:
    with pytest.raises(LicenceError, match=data):
        adapter_licence(BASE, data, None)
    assert adapter_licence(BASE, data, data).id == data


def test_share_alike_is_stated() -> None:
    assert adapter_licence(BASE, "cc-by-sa-4.0", None).id == "apache-2.0"
    assert "share-alike" in data_remark("cc-by-sa-4.0")
