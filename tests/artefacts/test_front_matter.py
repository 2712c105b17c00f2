"""The fields of a card are what the Hub reads, from cards as people and editors leave them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from huggingface_hub import RepoCard

from hubdpo.artefacts.formats.front_matter import BOM, fields, lines_of_front, part, read_yaml
from hubdpo.artefacts.formats.kept_sections import split_card
from hubdpo.cards.dataset.source_card import parse_card
from hubdpo.cards.licences import licence_of
from hubdpo.cards.lint.data import split_rows
from hubdpo.cards.lint.lint import lint_card

PLAIN = "---\nlicense: mit\nlicense_name: m\n---\n\n# Title\n"
AS_EDITORS_LEAVE_IT = {
    "plain": PLAIN,
    "blank first line": "\n" + PLAIN,
    "blank first lines with spaces": " \n\t\n\n" + PLAIN,
    "BOM": BOM + PLAIN,
    "BOM and blank line": BOM + "\n" + PLAIN,
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "BOM and CRLF": BOM + PLAIN.replace("\n", "\r\n"),
    "spaces after the end": PLAIN.replace("---\n\n", "---  \t\n\n"),
    "no text after it": "---\nlicense: mit\nlicense_name: m\n---",
    "dashes in it": PLAIN.replace("license_name: m", "license_name: m\ntitle: a --- b"),
}
NO_FRONT = [
    "",
    "# Title\n",
    "---\nlicense: mit\n",
    "text\n---\nlicense: mit\n---\n",
    "--- \nlicense: mit\n---\n",
    "----\na: 1\n---\n",
]
NO_YAML = [
    "---\na: !!int ''\n---\n",
    "---\na: !!bool x\n---\n",
    "---\na: !!timestamp x\n---\n",
    f"---\na: {'[' * 2_000}{']' * 2_000}\n---\n",
    "---\na: [\n---\n",
    "---\na: 2024-99-99\n---\n",
    "---\n? [a]\n: b\n---\n",
    "---\n- a\n---\n",
    "---\na: \x00\n---\n",
    "---\n\ttab: 1\n---\n",
]


@pytest.mark.parametrize("text", AS_EDITORS_LEAVE_IT.values(), ids=AS_EDITORS_LEAVE_IT)
def test_every_reader_finds_the_licence(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert licence_of(tmp_path) == {"license": "mit", "license_name": "m", "license_link": None}
    assert fields(text)["license"] == "mit"
    assert parse_card(text, "card").facts["license"] == "mit"
    assert not [one for one in lint_card(text, "adapter", {}) if one.field == "front matter"]
    with_splits = text.replace("license: mit", "license: mit\ndataset_info: {splits: [{name: train, num_examples: 3}]}")
    assert split_rows(fields(with_splits)["dataset_info"]) == {"train": 3}


@pytest.mark.parametrize("text", [*AS_EDITORS_LEAVE_IT.values(), *NO_FRONT])
def test_it_is_read_as_huggingface_hub_reads_it(text: str) -> None:
    theirs = RepoCard(text.removeprefix(BOM), ignore_metadata_errors=True)
    assert fields(text) == theirs.data.to_dict()
    assert part(text).body == theirs.text


def test_any_text_is_parted_as_huggingface_hub_parts_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", logger="huggingface_hub")
    draw = random.Random(3)
    pieces = ["---", "--", "-", "\n", "\r\n", " ", "\t", "a: 1", "b: c", "# x", "\n---\n", "---\n"]
    with_front = 0
    for _ in range(4_000):
        text = draw.choice(["", "---\n", "---\r\na: 1"]) + "".join(draw.choices(pieces, k=draw.randint(1, 12)))
        try:
            theirs = RepoCard(text, ignore_metadata_errors=True)
        except Exception:  # YAML that it cannot read ends in whatever PyYAML raises
            assert fields(text) == {}
            continue
        with_front += bool(theirs.data.to_dict())
        assert fields(text) == theirs.data.to_dict(), repr(text)
        assert part(text).body == theirs.text, repr(text)
    assert with_front > 300


@pytest.mark.parametrize("text", NO_YAML)
def test_what_is_no_yaml_is_told_and_never_a_traceback(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fields(text) == {}
    (tmp_path / "README.md").write_text(text)
    assert licence_of(tmp_path)["license"] is None
    assert "cannot be read" in capsys.readouterr().err
    (found,) = lint_card(text, "adapter", {})
    assert found.field == "front matter"
    assert found.message.removeprefix("cannot be read as YAML: ").strip()


def test_a_broken_yaml_is_told_in_one_line() -> None:
    with pytest.raises(ValueError, match="while parsing") as caught:
        read_yaml("a: [\nb: }\n")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("licence", "found"), [("[mit]", "mit"), ("[mit, apache-2.0]", None), ("3", None)])
def test_a_list_of_one_licence_is_that_licence(tmp_path: Path, licence: str, found: str | None) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    assert licence_of(tmp_path)["license"] == found


@pytest.mark.parametrize("text", AS_EDITORS_LEAVE_IT.values(), ids=AS_EDITORS_LEAVE_IT)
def test_a_marker_in_the_front_matter_is_no_section(text: str) -> None:
    marked = text.replace("license: mit", "license: mit\n# <!-- hubdpo:keep -->")
    body = f"{marked}\n\n<!-- hubdpo:keep -->\nmine\n<!-- /hubdpo:keep -->\n"
    assert [one.text for one in split_card(body.replace("# <!--", "<!--")).kept] == ["mine"]


def test_lines_of_front_counts_what_is_before_the_body() -> None:
    assert [lines_of_front(text) for text in ("", "x", PLAIN, "\n" + PLAIN, "---\na: 1\n---")] == [0, 0, 4, 5, 3]
