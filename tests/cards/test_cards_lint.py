"""The card linter accepts every card that hubdpo writes, and names the field of each bad card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi

from hubdpo import prepare, push
from hubdpo.artefacts.formats.front_matter import fields, part
from hubdpo.artefacts.formats.kept_sections import split_card
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest, card_entry
from hubdpo.cards.dataset.source_card import shipped_cards
from hubdpo.cards.lint.fields import LICENCES, is_arxiv, is_language, size_category
from hubdpo.config import PushConfig
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.release.drafts import dataset_draft
from tests.cards.made import FILES, adapter_card, files_of, findings_in, report, run_manifest

BASE: dict[str, Any] = {
    "license": "apache-2.0", "base_model": "Qwen/Qwen2-7B-Instruct", "base_model_relation": "adapter",
    "library_name": "peft", "pipeline_tag": "text-generation", "tags": ["dpo"],
}  # fmt: skip
RESULT: dict[str, Any] = {
    "task": {"type": "text-generation"}, "dataset": {"type": "a/b", "name": "b"},
    "metrics": [{"type": "accuracy", "value": 0.5}],
}  # fmt: skip


def card(body: str = "# Fine\n", **changes: Any) -> str:
    front = {key: value for key, value in (BASE | changes).items() if value != "absent"}
    return f"---\n{yaml.safe_dump(front)}---\n\n{body}"


BAD_FIELDS = {
    "licence nobody knows": ("license", {"license": "qwen-research"}),
    "licence in capitals": ("license", {"license": "Apache-2.0"}),
    "licence of SPDX": ("license", {"license": "gpl-3.0-or-later"}),
    "no licence": ("license", {"license": "absent"}),
    "licence that is a number": ("license", {"license": 2}),
    "other without a name": ("license_name", {"license": "other", "license_link": "LICENSE"}),
    "other without a link": ("license_link", {"license": "other", "license_name": "tongyi-qianwen"}),
    "link to no file": (
        "license_link", {"license": "other", "license_name": "x", "license_link": "LICENCE.pdf"},
    ),
    "name of several words": (
        "license_name", {"license": "other", "license_name": "my own", "license_link": "LICENSE"},
    ),
    "base is a path": ("base_model", {"base_model": "/models/Qwen2-7B"}),
    "base is a relative path": ("base_model", {"base_model": "./out/checkpoint-9"}),
    "base is missing": ("base_model", {"base_model": "absent"}),
    "relation nobody knows": ("base_model_relation", {"base_model_relation": "lora"}),
    "relation is a list": ("base_model_relation", {"base_model_relation": ["adapter"]}),
    "not peft": ("library_name", {"library_name": "transformers"}),
    "dataset is a path": ("datasets", {"datasets": ["/data/prefs"]}),
    "dataset with a revision": ("datasets", {"datasets": ["acme/prefs@v1.0.0"]}),
    "task nobody knows": ("pipeline_tag", {"pipeline_tag": "text-generatoin"}),
    "category nobody knows": ("task_categories", {"task_categories": ["dpo"]}),
    "size nobody knows": ("size_categories", {"size_categories": ["n>10M"]}),
    "language in words": ("language", {"language": ["English"]}),
    "country for a language": ("language", {"language": ["cn"]}),
    "tag that is a number": ("tags", {"tags": ["dpo", 2026]}),
    "tags as a mapping": ("tags", {"tags": {"a": 1}}),
    "paper nobody wrote": ("tags", {"tags": ["arxiv:2305"]}),
    "new version that is a tag": ("new_version", {"new_version": "v2 of this"}),
    "emissions in words": ("co2_eq_emissions", {"co2_eq_emissions": {"emissions": "little"}}),
    "title that is a list": ("pretty_name", {"pretty_name": ["a"]}),
    "index without results": ("model-index", {"model-index": [{"name": "x"}]}),
    "index with a null": (
        "model-index",
        {"model-index": [{"name": "x", "results": [{**RESULT, "dataset": {**RESULT["dataset"], "config": None}}]}]},
    ),
    "index with a word for a value": (
        "model-index",
        {"model-index": [{"name": "x", "results": [{**RESULT, "metrics": [{"type": "accuracy", "value": "good"}]}]}]},
    ),
}  # fmt: skip

BAD_TEXTS = {
    "no front matter": ("front matter", "# Hello\n"),
    "front matter that is no YAML": ("front matter", "---\ntags: [a\n---\n"),
    "front matter that is a list": ("front matter", "---\n- a\n---\n"),
    "a key given twice": ("front matter", "---\nlicense: mit\nlicense: apache-2.0\n---\n"),
    "no for Norwegian": ("language", card().replace("license:", "language: [no]\nlicense:")),
    "path in the front matter": ("front matter", card(co2="/home/me/energy.csv")),
    "path in the text": ("body", card("See /home/me/run for more.\n")),
    "path in code": ("body", card("```bash\ncat /root/run/log\n```\n")),
    "path of another system": ("body", card("In `C:\\Users\\me` it stands.\n")),
    "credential in a sample": ("body", card("```text\nhf_" + "a1B2" * 9 + "\n```\n")),
    "placeholder": ("body", card("## Bias\n\n[More Information Needed]\n")),
    "link to no file": ("link", card("[log](training.log)\n")),
    "link to the root": ("link", card("[log](/metrics.jsonl)\n")),
    "link out of the repo": ("link", card("[log](../metrics.jsonl)\n")),
    "link to code": ("html", card('<a href="javascript:alert(1)">x</a>\n')),
    "link to a file of a machine": ("link", card("[x](file:///etc/passwd)\n")),
    "picture that is not there": ("image", card("![loss](plots/los.png)\n")),
    "paper that cannot be": ("link", card("[DPO](https://arxiv.org/abs/23.1)\n")),
    "script": ("html", card("<script>alert(1)</script>\n")),
    "frame": ("html", card('<iframe src="https://example.com"></iframe>\n')),
    "handler": ("html", card('<img src="plots/loss.png" onerror="x()">\n')),
    "style": ("html", card('<p style="position:fixed">x</p>\n')),
}


@pytest.mark.parametrize(("field", "changes"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_is_named(field: str, changes: dict[str, Any]) -> None:
    found = findings_in(card(**changes))
    assert {finding.field for finding in found} == {field}
    assert all(finding.message and finding.hint for finding in found)


@pytest.mark.parametrize(("field", "text"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_bad_text_is_named(field: str, text: str) -> None:
    found = findings_in(text)
    assert field in {finding.field for finding in found}
    assert all(finding.hint for finding in found)


def test_placeholders_are_one_thing_to_do() -> None:
    (found,) = findings_in(card("## Bias\n\n[More Information Needed]\n\n" * 40))
    assert found.message == "contains a placeholder: [More Information Needed], 40 times"


@pytest.mark.parametrize(
    "body",
    [
        "<details><summary>More</summary>\n\n[a](#x) <br> H<sub>2</sub>O\n\n</details>\n",
        "![loss](plots/loss.png) [plots](plots/) [x](./LICENSE) [y](README.md#use)\n",
        "<!-- hubdpo:keep -->\nBy hand, see <https://example.com>.\n<!-- /hubdpo:keep -->\n",
        '<p align="center"><img src="plots/loss.png" width="300" alt="loss"></p>\n',
        "```text\n<script>, /home/me and [x](y) are quoted\n```\n",
        "https://arxiv.org/abs/2305.18290v3 and <https://arxiv.org/abs/hep-th/9901001>\n",
    ],
)
def test_a_harmless_body_passes(body: str) -> None:
    assert findings_in(card(body)) == []


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("gpl-3.0-or-later", "license: gpl-3.0"),
        ("apache2.0", "apache-2.0"),
        ("own", "other"),
    ],
)
def test_the_hint_names_the_licence_that_was_meant(given: str, hint: str) -> None:
    (finding,) = findings_in(card(license=given))
    assert hint in (finding.hint or "")


CARDS = {
    "plain": lambda: adapter_card(evaluation=report()),
    "no eval": lambda: adapter_card(),
    "data not published": lambda: adapter_card(
        run_manifest(dataset={"repo_id": None, "revision": None, "name": "d|`<"})
    ),
    "no test split": lambda: adapter_card(run_manifest(dataset={"test_pairs": 0})),
    "zh": lambda: adapter_card(
        run_manifest(dataset={"language": ["zh"], "citation": "@misc{x, title={直接偏好}}"}),
        report(samples=[{"prompt": "你好", "base": "您好\n```", "adapter": "\u202e嗨"}]),
    ),
    "other licence with a link": lambda: adapter_card(
        run_manifest(base={"license": "other", "license_name": "tongyi-qianwen", "license_link": "LICENSE"}), report()
    ),
    "licence that was given": lambda: adapter_card(given="other", name="mine", link="https://example.com/licence"),
    "share-alike": lambda: adapter_card(run_manifest(dataset={"license": "cc-by-sa-4.0"})),
    "old report": lambda: adapter_card(
        evaluation=report(mcnemar_p=None, chosen_longer=None, base_summed_accuracy=None, samples=[])
    ),
    "not quantised, several losses": lambda: adapter_card(
        run_manifest(config={"load_in_4bit": False, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}),
        report(),
    ),
}


@pytest.mark.parametrize("make", CARDS.values(), ids=CARDS)
def test_every_adapter_card_passes(make: Any) -> None:
    text = make()
    assert findings_in(text) == []
    assert "None" not in text
    assert "{{" not in text.replace("{{Preference", "")


ROWS = {
    "plain": [{"prompt": "p", "chosen": "a", "rejected": "b", "source": "a|b"}],
    "zh multi-turn": [
        {
            "prompt": [
                {"role": "system", "content": "你是助手"}, {"role": "user", "content": "你好"},
                {"role": "assistant", "content": "```您好"}, {"role": "user", "content": "<script>茶的历史?"},
            ],
            "chosen": [{"role": "assistant", "content": f"茶 {i} ![x](http://x)"}],
            "rejected": [{"role": "assistant", "content": "不知道"}],
            "source": "`",
        }
        for i in range(8)
    ],
}  # fmt: skip


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"test_size": 0.5, "license": "cc-by-sa-4.0", "language": ["zh"]},
        {"keep": ["source"], "scan": "secrets", "name": "A | `title` <b>"},
        {"card": "ultrafeedback", "dedupe": "near"},
    ],
    ids=["no test split", "share-alike", "kept column", "source card"],
)
def test_every_dataset_card_passes(rows: list[Any], options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    out = tmp_path / "out"
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=out, num_proc=1, **{"test_size": 0, **options})
    assert findings_in((out / "README.md").read_text(), "dataset", files_of(out)) == []


@pytest.mark.parametrize(
    ("options", "field", "hint"),
    [
        ({"license": "ccby4"}, "license", "cc-by-4.0`?"),
        ({"license": "mine"}, "license", "unknown"),
        ({"license": "other"}, "license_name", "license_name: ..."),
        ({"language": ["english"]}, "language", "--language en"),
        ({"card": "own.md"}, "source_datasets", "source_datasets: [USER/NAME]"),
    ],
)
def test_prepare_refuses_what_the_hub_would_refuse_before_it_works(
    options: dict[str, Any], field: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    Path("own.md").write_text("---\nsource_datasets: [/home/me/data]\nsize_categories: [any]\n---\n")
    with pytest.raises(ConfigError, match=f"`{field}` of the card") as caught:
        prepare(source=["raw.jsonl"], output_dir="out", **options)
    assert hint in str(caught.value.hint)
    assert not Path("out").exists()


@pytest.mark.parametrize("path", sorted(shipped_cards().glob("*.md")), ids=lambda path: path.stem)
def test_the_words_of_every_source_card_pass(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    front = fields(source)
    assert front
    text = card(
        part(source).body, **{key: front[key] for key in ("license", "language", "source_datasets") if key in front}
    )
    assert findings_in(text) == []


DATASET_CHANGES = {
    "rows that are not there": ("dataset_info", "num_examples: ", "num_examples: 1"),
    "split that is not there": ("configs", "path: data/test-*.parquet", "path: data/tset-*.parquet"),
    "split under another name": ("dataset_info", "- name: test", "- name: tets"),
    "column that is not there": ("dataset_info", "- name: prompt", "- name: question"),
    "column of another type": (
        "dataset_info",
        "    - name: role\n      dtype: string",
        "    - name: role\n      dtype: int64",
    ),
    "size that does not add up": ("dataset_info", "dataset_size: ", "dataset_size: 1"),
    "config without a name": ("configs", "- config_name: default\n  default: true", "- default: true"),
    "no configs": ("configs", "configs:", "config:"),
}


@pytest.mark.parametrize(("field", "old", "new"), DATASET_CHANGES.values(), ids=DATASET_CHANGES)
def test_a_dataset_card_that_contradicts_the_files_is_named(field: str, old: str, new: str, dataset_dir: Path) -> None:
    text = (dataset_dir / "README.md").read_text()
    assert old in text
    found = findings_in(text.replace(old, new, 1), "dataset", files_of(dataset_dir))
    assert {finding.field for finding in found} == {field}


def test_push_refuses_a_card_and_names_the_field(dataset_dir: Path, repo_id: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset_dir, tmp_path / "data", ignore=shutil.ignore_patterns("release.json")))
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("license: mit", "license: mitt", 1))
    manifest = PrepareManifest.read(folder / PREPARE_FILE)
    manifest.files["README.md"] = card_entry(readme.read_text())
    manifest.write(folder / PREPARE_FILE)
    config = PushConfig(folder=folder, repo="alice/pairs", version="1.0.0")
    with pytest.raises(ArtefactError, match="`license`"):
        dataset_draft(config)  # before the Hub is asked for anything
    with pytest.raises(ArtefactError, match="`license` is not a licence that the Hub knows: mitt") as caught:
        push(folder=folder, repo=repo_id, version="1.0.0")
    assert caught.value.hint == "did you mean `mit`?"


KEEP = "<!-- hubdpo:keep -->\n{}\n<!-- /hubdpo:keep -->\n"


@pytest.mark.parametrize(
    ("text", "field"),
    [("![a plot of mine](mine.png)", "image"), ("<script>x()</script>", "html"), ("[More Information Needed]", "body")],
)
def test_kept_sections_are_checked_too(text: str, field: str, dataset_dir: Path, repo_id: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset_dir, tmp_path / "data", ignore=shutil.ignore_patterns("release.json")))
    card = split_card((folder / "README.md").read_text()).generated
    (folder / "README.md").write_text(card + "\n" + KEEP.format(text))
    with pytest.raises(ArtefactError, match=f"`{field}`"):
        push(folder=folder, repo=repo_id, version="1.0.0")


def test_a_kept_section_may_lead_to_a_file_that_the_repo_has(dataset_dir: Path, repo_id: str, tmp_path: Path) -> None:
    HfApi().create_repo(repo_id, repo_type="dataset")
    HfApi().upload_file(path_or_fileobj=b"png", path_in_repo="mine.png", repo_id=repo_id, repo_type="dataset")
    folder = Path(shutil.copytree(dataset_dir, tmp_path / "data", ignore=shutil.ignore_patterns("release.json")))
    card = split_card((folder / "README.md").read_text()).generated
    (folder / "README.md").write_text(card + "\n" + KEEP.format("![a plot of mine](mine.png)"))
    push(folder=folder, repo=repo_id, version="1.0.0")
    assert "(mine.png)" in Path(HfApi().hf_hub_download(repo_id, "README.md", repo_type="dataset")).read_text()


def test_the_hubs_licences_are_all_there() -> None:
    assert len(LICENCES) == 83
    assert {"apache-2.0", "cc-by-sa-4.0", "llama3.1", "other"} <= LICENCES


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("gpt2", True),
        ("a/b", True),
        ("a/b/c", False),
        ("/a/b", False),
        ("a/b.git", False),
        ("a--b/c", False),
        ("", False),
    ],
)
def test_ids(value: str, is_one: bool) -> None:
    assert is_repo_id(value, owner_required=False) is is_one


@pytest.mark.parametrize(
    ("code", "is_one"), [("zh", True), ("zh-Hant", True), ("cmn", True), ("xx", False), (False, False)]
)
def test_languages(code: Any, is_one: bool) -> None:
    assert is_language(code) is is_one


@pytest.mark.parametrize(
    ("number", "is_one"), [("2305.18290", True), ("2313.18290", False), ("cs/0112017", True), ("1", False)]
)
def test_arxiv(number: str, is_one: bool) -> None:
    assert is_arxiv(number) is is_one


@pytest.mark.parametrize(
    ("rows", "name"), [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10_000_000, "10M<n<100M"), (10**13, "n>1T")]
)
def test_sizes(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_files_without_content_are_not_compared(dataset_dir: Path) -> None:
    text = (dataset_dir / "README.md").read_text().replace("num_examples: ", "num_examples: 1")
    assert findings_in(text, "dataset", dict.fromkeys(files_of(dataset_dir))) == []
    assert FILES["README.md"] == b""
