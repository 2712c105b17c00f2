"""Cards are valid on the Hub, agree with the manifests, and keep untrusted text in fences."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from huggingface_hub import DatasetCard, HfApi, ModelCard

from hubdpo import prepare, push
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.cards.dataset.source_card import card_of_shape, parse_card, shipped_cards, source_card
from hubdpo.cards.fences import fence, visible, wrapped
from hubdpo.cards.licences import adapter_licence, data_remark
from hubdpo.cards.model.card import citation_of
from hubdpo.cards.results import some_pairs
from hubdpo.data.converters import NAMES
from hubdpo.errors import ConfigError, LicenceError
from hubdpo.loopback.api.content.card_checks import card_data
from tests.cards.made import adapter_card, findings_in, report, run_manifest

if TYPE_CHECKING:
    from tests.conftest import Hub

DATA = {"name": "hard", "fingerprint": "e" * 64, "train_pairs": 0, "test_pairs": 7}
BASE = BaseRef(name="a/b", repo_id="a/b", revision="0" * 40, license="apache-2.0")


@pytest.mark.parametrize("text", ["plain", "```", "````\n# out", "`" * 50, "a```b````c\n~~~"])
def test_a_fence_is_longer_than_any_backticks_in_it(text: str) -> None:
    lines = fence(text).split("\n")
    ticks = lines[-1]
    assert lines[0] == ticks + "text"
    assert set(ticks) == {"`"}
    assert max(map(len, re.findall("`+", "\n".join(lines[1:-1]))), default=0) < len(ticks)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\u202eb", "a\\u202eb"), ("\x1b[31m", "\\u001b[31m"), ("a\u200bb", "a\\u200bb"), ("é\n\t名", "é\n\t名")],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("name", NAMES)
def test_every_converter_describes_its_format_and_claims_nothing(name: str) -> None:
    text = (shipped_cards() / "formats" / f"{name}.md").read_text()
    assert text.startswith(("Each row has ", "The rows are ", "Their columns were "))
    assert not re.search(
        r"licen[cs]e|https?:|CC BY|United States|hh-rlhf|Anthropic|Stack Exchange", text, re.IGNORECASE
    )


@pytest.mark.parametrize("path", sorted(shipped_cards().glob("*.md")), ids=lambda path: path.stem)
def test_a_shipped_card_is_of_a_source_that_a_converter_reads(path: Path) -> None:
    card = parse_card(path.read_text(), path.stem)
    assert card.facts["format"] in NAMES
    assert card.facts["source_datasets"]
    assert "Provenance" in card.body


def test_a_known_source_brings_its_own_card() -> None:
    card = source_card(None, ["hf://datasets/openbmb/UltraFeedback@0123/train.parquet"])
    assert (card.license, card.facts["source_datasets"]) == ("mit", ["openbmb/UltraFeedback"])
    assert "2,628" in card.body


@pytest.mark.parametrize(
    ("sources", "ids"),
    [
        (["openbmb/UltraFeedback", "nvidia/HelpSteer2"], ["openbmb/UltraFeedback", "nvidia/HelpSteer2"]),
        (["openbmb/UltraFeedback", None], ["openbmb/UltraFeedback"]),
        (["nobody/knows-it"], ["nobody/knows-it"]),
        ([None], None),
    ],
    ids=["two known", "known and local", "unknown", "local"],
)
def test_other_sources_bring_their_ids_and_nothing_else(sources: list[str | None], ids: list[str] | None) -> None:
    names = [f"hf://datasets/{name}@0/a.parquet" if name else "a.parquet" for name in sources]
    card = source_card(None, names)
    assert (card.license, card.language, card.body, card.facts.get("source_datasets")) == (None, [], "", ids)


SHAPES = {
    "hh-rlhf": {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
    "stack-exchange-paired": {"qid": 1, "question": "why", "response_j": "so", "response_k": "not", "date": "d",
                              "metadata": ["https://example.org"]},
    "preference": {"prompt": "why", "chosen": "so", "rejected": "not"},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_of_rows_claims_nothing_about_their_source(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.jsonl").write_text(json.dumps(SHAPES[name]) + "\n")
    manifest = prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert (manifest.converter, manifest.license, manifest.language) == (name, None, [])
    assert card.data.pretty_name == "Preference pairs of raw.jsonl"
    assert not {"license", "language", "source_datasets"} & card.data.to_dict().keys()
    assert "It is not recorded who wrote the answers, who compared them, and with what instructions." in card.text
    assert "## Citation" not in card.text
    assert (f"`--card {name}` states" in capsys.readouterr().err) is (card_of_shape([name]) is not None)


def test_a_named_card_claims_its_source_and_keeps_what_its_licence_asks_for(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text(json.dumps(SHAPES["stack-exchange-paired"]) + "\n")
    prepare(
        source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0, card="stack-exchange-paired"
    )
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.to_dict()["source_datasets"]) == (
        "cc-by-sa-4.0", ["lvwerra/stack-exchange-paired"],
    )  # fmt: skip
    assert all(f"| `{name}` | text |" in card.text for name in ("qid", "date", "metadata"))


def test_a_shipped_card_can_be_named() -> None:
    assert source_card("shp", []).facts["source_datasets"] == ["stanfordnlp/SHP"]


@pytest.mark.parametrize(("name", "hint"), [("ultrafeedbak", "ultrafeedback"), ("preference", "one of: ")])
def test_a_card_that_is_not_there_is_refused_with_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        source_card(name, [])
    assert hint in (caught.value.hint or "")


def test_the_dataset_card_says_what_the_manifest_says(dataset_dir: Path) -> None:
    card = DatasetCard.load(dataset_dir / "README.md")
    manifest = PrepareManifest.read(dataset_dir / "prepare.json")
    splits = {split["name"]: split["num_examples"] for split in card.data.to_dict()["dataset_info"]["splits"]}
    assert splits == manifest.splits
    assert card.data.license == "mit"
    assert f"| **kept** | **{manifest.funnel.kept}** |" in card.text
    assert card_data(card.content)


def test_the_card_of_one_pair_speaks_of_one_pair_and_one_split(tmp_path: Path) -> None:
    prepare([{"prompt": "p", "chosen": "good", "rejected": "bad"}], tmp_path / "out", test_size=0)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "\n1 preference pair with the columns" in text
    assert "\nAll pairs are in the split `train`.\nThe same input and options give the same bytes.\n" in text
    assert "both splits" not in text


def test_unused_columns_are_named_in_the_card(tmp_path: Path) -> None:
    answers = {name: [{"role": "assistant", "content": name, "weight": 0.5}] for name in ("chosen", "rejected")}
    (tmp_path / "raw.jsonl").write_text(json.dumps({"prompt": "q", **answers, "": 1, "x`y|z": 1}))
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for shown in ("`chosen[].weight` (1", "`(no name)` (1", "`x y z` (1"):
        assert shown in card


def test_wrapping_keeps_the_text_and_limits_the_width() -> None:
    draw = random.Random(1)
    for _ in range(500):
        text = "".join(draw.choices(["word ", "茶", "x" * 30, " ", "\n", "`", "é"], k=draw.randint(0, 60)))
        lines = wrapped(text, 40).split("\n")
        assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")
        assert all(sum(2 if char == "茶" else 1 for char in line) <= 40 for line in lines)


def test_no_line_begins_with_a_closing_mark() -> None:
    assert wrapped("茶的历史，很长。" * 9, 16).split("\n")[0] == "茶的历史，很长。"
    assert wrapped("茶的历史很长吧，" * 9, 14).split("\n")[0] == "茶的历史很长"


def test_a_long_row_shows_all_three_of_its_parts(tmp_path: Path) -> None:
    row = {"prompt": "p" * 5_000, "chosen": "c" * 5_000, "rejected": "r" * 5_000}
    (tmp_path / "raw.jsonl").write_text(json.dumps(row) + "\n")
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    text = (tmp_path / "out" / "README.md").read_text()
    assert all(f"[{part}] {part[0] * 70}" in text for part in ("chosen", "rejected"))
    assert max(map(len, text.split("## Samples")[1].splitlines())) <= 120


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


def test_the_users_own_card_gives_licence_and_provenance(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "card.md").write_text("---\nlicense: cc0-1.0\nlanguage: [fr]\n---\nMade of {{ pairs }} pairs by me.\n")
    manifest = prepare(
        source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", card=tmp_path / "card.md", test_size=0
    )
    assert (manifest.license, manifest.language) == ("cc0-1.0", ["fr"])
    assert "Made of 1 pairs by me." in (tmp_path / "out" / "README.md").read_text()


def test_the_dataset_card_counts_equal_lengths_by_half(tmp_path: Path) -> None:
    answers = [("longer", "short"), ("s", "longer"), ("even", "same"), ("as", "is")]
    rows = [{"prompt": f"q{i}", "chosen": good, "rejected": bad} for i, (good, bad) in enumerate(answers)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    facts = manifest.statistics["train"]
    assert (facts["chosen_is_longer"], facts["as_long"]) == (0.25, 0.5)
    card = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert "always picking the longer answer is right on 50.0 % of the train pairs, equal lengths by half." in card


@pytest.mark.parametrize("text", ["no front matter", "---\n- a\n---\n", "---\na: [\n---\n"])
def test_a_card_without_front_matter_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="mine"):
        parse_card(text, "mine")


def test_the_model_card_is_valid_and_true(run_dir: Path, repo_id: str) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    card = ModelCard.load(repo_id)
    run, measured = RunManifest.read(run_dir / "run.json"), EvalReport.read(run_dir / "eval.json")
    data = card.data.to_dict()
    assert data["base_model"] == run.base.repo_id
    assert (data["library_name"], data["base_model_relation"], data["license"]) == ("peft", "adapter", "apache-2.0")
    values = [result.metric_value for result in card.data.eval_results or []]
    assert values == [
        round(share.value, 4)
        for share in (measured.adapter_accuracy, measured.reward_accuracy, measured.original.adapter_accuracy)
    ]
    assert f"{100 * measured.longer_answer_accuracy.value:.1f} %" in card.text
    assert "None" not in card.text


def test_the_card_of_a_repo_is_taken_by_the_hub(run_dir: Path, repo_id: str) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    front = yaml.safe_load(ModelCard.load(repo_id).content.split("---")[1])
    assert HfApi().model_info(repo_id).library_name == front["library_name"]


@pytest.mark.parametrize("unknown", [None, "", "unknown"])
def test_a_licence_is_never_guessed(unknown: str | None) -> None:
    with pytest.raises(LicenceError, match="states no licence"):
        adapter_licence(BASE.model_copy(update={"license": unknown}), None, None)


@pytest.mark.parametrize("data", ["cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0"])
def test_restricted_data_need_an_explicit_licence(data: str) -> None:
    with pytest.raises(LicenceError, match=data):
        adapter_licence(BASE, data, None)
    assert adapter_licence(BASE, data, data).id == data


def test_another_licence_needs_a_name_and_a_link() -> None:
    with pytest.raises(LicenceError, match="`other`") as caught:
        adapter_licence(BASE, None, "other")
    assert "--license-name" in (caught.value.hint or "")
    licence = adapter_licence(BASE, None, "other", name="mine", link="https://example.com")
    assert (licence.id, licence.name, licence.link, licence.given) == ("other", "mine", "https://example.com", True)


def test_push_takes_the_publishers_licence(run_dir: Path, repo_id: str) -> None:
    with pytest.raises(LicenceError, match="`other`"):
        push(folder=run_dir, repo=repo_id, version="1.0.0", license="other")
    link = "https://example.com/licence"
    push(folder=run_dir, repo=repo_id, version="1.0.0", license="other", license_name="mine", license_link=link)
    card = ModelCard.load(repo_id)
    assert (card.data.license, card.data.license_name, card.data.license_link) == ("other", "mine", link)
    assert f"[mine]({link}),\nas given by the publisher." in card.text


def test_a_link_inside_the_bases_repo_leads_to_its_commit(hub: Hub) -> None:
    base = BASE.model_copy(update={"license": "other", "license_name": "tongyi-qianwen", "license_link": "./LICENSE"})
    link = f"{hub.endpoint}/a/b/blob/{'0' * 40}/LICENSE"
    assert adapter_licence(base, None, None).link == link
    card = f"---\nlicense: other\nlicense_name: x\nlicense_link: {link}\n---\n"
    assert "license_link" not in [finding.field for finding in findings_in(card)]


def test_links_to_repos_lead_to_the_hub_of_the_release(hub: Hub) -> None:
    text = adapter_card()
    assert f"[acme/prefs]({hub.endpoint}/datasets/acme/prefs)" in text
    assert f"[Qwen/Qwen2-0.5B-Instruct]({hub.endpoint}/Qwen/Qwen2-0.5B-Instruct)" in text
    assert "https://huggingface.co/" not in text


def test_share_alike_is_stated() -> None:
    assert adapter_licence(BASE, "cc-by-sa-4.0", None).id == "apache-2.0"
    assert "share-alike" in data_remark("cc-by-sa-4.0")


def test_the_adapters_card_says_what_was_measured() -> None:
    text = adapter_card(evaluation=report())
    for said in (
        "**67.9 %** of 957 held-out pairs, the base model in 58.6 %",
        "| log-likelihood accuracy, per token | 58.6 % (55.5–61.7) | 67.9 % (64.9–70.8) | +9.3 pt |",
        "The adapter alone ranks 170 pairs correctly, the base model alone 81 pairs (McNemar's exact test: p = 2e-08).",
        "the 585 pairs whose preferred answer is longer and the 360\nwhose preferred answer is shorter",
        "| **100** | **1.00** | **0.0100** | **0.0100** |",
        "(r 16, 2,048 parameters)",
        "`Qwen/Qwen2-0.5B-Instruct` at `0123456789abcdef0123456789abcdef01234567`",
        "@inproceedings{rafailov2023direct",
        "[arXiv:2407.10671](https://arxiv.org/abs/2407.10671)",
    ):
        assert said in text, said
    assert text.count("More Information Needed") == 0


@pytest.mark.parametrize(
    ("losses", "method", "paper", "tags"),
    [
        (["simpo"], "SimPO", "2405.14734", ["simpo"]),
        (["orpo", "sft"], "ORPO", "2403.07691", ["orpo"]),
        (["sigmoid", "cpo"], "DPO + CPO", "2401.08417", ["dpo", "cpo"]),
    ],
)
def test_a_card_names_the_method_and_claims_a_reference_only_where_there_is_one(
    losses: list[str], method: str, paper: str, tags: list[str]
) -> None:
    text = adapter_card(run_manifest(config={"loss_type": losses, "weight_column": "trust"}), report())
    assert f"trained with QLoRA and {method} on" in text
    assert f"arxiv.org/abs/{paper}" in text
    assert f"| {method} | {' + '.join(losses)}, β 0.1, " in text
    assert "`weight_column trust`" in text
    has_reference = "sigmoid" in losses
    for claim in ("reference: base model", "implicit-reward", "2305.18290", "rafailov2023direct", "mean reward margin"):
        assert (claim in text) is has_reference, claim
    assert ("no reference model" in text) is not has_reference
    assert [tag for tag in ("dpo", "simpo", "cpo", "orpo") if f"\n- {tag}\n" in text] == tags
    assert not findings_in(text)


def test_a_card_names_what_its_loss_reads() -> None:
    assert "`simpo_gamma 0.5`" in adapter_card(run_manifest(config={"loss_type": ["simpo"], "beta": 2.0}), report())
    assert "simpo_gamma" not in adapter_card()


def test_the_row_of_the_adapter_is_in_bold() -> None:
    best = {"step": 5, "metric": "eval_loss", "value": 0.2, "of": 20}
    text = adapter_card(run_manifest(chosen=best), report())
    assert re.findall(r"^\| \*\*(\d+)\*\* ", text, re.MULTILINE) == ["5"]
    assert re.findall(r"^\| \*\*(\d+)\*\* ", adapter_card(evaluation=report()), re.MULTILINE) == ["100"]


@pytest.mark.parametrize("evaluation", [report(), None], ids=["test split", "no test split"])
def test_further_datasets_are_a_table_of_their_own(evaluation: EvalReport | None) -> None:
    sets = {"hard": {"dataset": DATA, "split": "test", "pairs": 7, "in_train": 1}}
    metrics = {"eval_hard_loss": 0.5, "eval_hard_rewards/accuracies": 0.75, "eval_hard_rewards/margins": 1.0}
    text = adapter_card(run_manifest(evaluation_sets=sets, metrics=metrics), evaluation)
    assert "|\n| `hard`, split `test` | 7 | 1 | 0.5000 | 0.7500 | 1.0000 |\n\n" in text


@pytest.mark.parametrize(
    ("count", "of", "most", "words"),
    [
        (8, 42, 8, "the first 8 of 42"), (7, 42, 8, "7 of the first 8 of 42"), (None, 42, 8, "the first 8 of 42"),
        (42, 42, 512, "42"), (40, 42, 512, "40 of 42"), (None, 42, None, "42"),
        (2000, 3000, 2000, "the first 2,000 of 3,000"),
    ],
)  # fmt: skip
def test_pairs_that_were_measured_are_told_beside_the_split(
    count: int | None, of: int, most: int | None, words: str
) -> None:
    assert some_pairs(count, of=of, most=most) == words


def test_the_curve_says_on_which_pairs_it_was_measured() -> None:
    run = run_manifest(eval_pairs=4)
    of = run.test_pairs
    run = run.model_copy(update={"config": run.config | {"max_eval_pairs": 4}})
    assert f"is measured on the first 4 of {of} test pairs." in adapter_card(run, report())


def test_a_curve_of_an_unknown_number_of_pairs_names_none() -> None:
    run = run_manifest()
    config = {name: value for name, value in run.config.items() if name != "max_eval_pairs"}
    assert "is measured on" not in adapter_card(run.model_copy(update={"config": config}), report())


def test_a_further_dataset_says_which_of_its_pairs_were_measured() -> None:
    data = {**DATA, "test_pairs": 50}
    run = run_manifest(evaluation_sets={"hard": {"dataset": data, "split": "test", "pairs": 7, "in_train": 1}})
    run = run.model_copy(update={"config": run.config | {"max_eval_pairs": 7}})
    assert "| `hard`, split `test` | the first 7 of 50 | 1 |" in adapter_card(run, report())


def test_an_insignificant_difference_is_called_so() -> None:
    assert "The difference is not significant at the 5% level." in adapter_card(evaluation=report(mcnemar_p=0.3))


def test_a_card_without_evaluation_has_no_results() -> None:
    text = adapter_card(evaluation=None)
    assert "Wilson" not in text
    assert "McNemar" not in text
    assert "## Samples" not in text
    assert "It was not evaluated on held-out pairs." in text


def test_answers_of_models_stay_in_their_fence() -> None:
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", adapter_card(evaluation=report()), flags=re.MULTILINE | re.DOTALL)
    assert "Because" not in outside


def test_the_citation_of_the_data_comes_along(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", card="ultrafeedback", test_size=0)
    cited = citation_of(tmp_path / "out")
    assert cited is not None
    assert cited.startswith("@misc{cui2023ultrafeedback")
    assert cited in adapter_card(run_manifest(dataset={"citation": cited}))


def test_the_licence_file_of_a_base_is_published(run_dir: Path, repo_id: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("release.json")))
    manifest = RunManifest.read(run / "run.json")
    update = {"license": "other", "license_name": "tongyi-qianwen", "license_link": "LICENSE"}
    manifest.model_copy(update={"base": manifest.base.model_copy(update=update)}).write(run / "run.json")
    (run / "LICENSE").write_text("Terms of the base.\n")
    push(folder=run, repo=repo_id, version="1.0.0")
    data = ModelCard.load(repo_id).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "tongyi-qianwen")
    assert data["license_link"].endswith(f"/blob/{manifest.base.revision}/LICENSE")
    assert Path(HfApi().hf_hub_download(repo_id, "LICENSE")).read_text() == "Terms of the base.\n"


def test_a_base_with_a_licence_of_its_own_leaves_it_in_the_run(tmp_path: Path) -> None:
    from hubdpo.model.bases.find import copy_base_files

    base, run = tmp_path / "base", tmp_path / "run"
    base.mkdir()
    run.mkdir()
    for name in ("LICENSE", "NOTICE", "tokenizer.json", "model.safetensors"):
        (base / name).write_text(name)
    copy_base_files(base, BASE.license, run, None)
    assert {path.name for path in run.iterdir()} == {"tokenizer.json"}
    copy_base_files(base, "other", run, None)
    assert {path.name for path in run.iterdir()} == {"LICENSE", "NOTICE", "tokenizer.json"}
