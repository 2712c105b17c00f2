"""Cards that are made to take time or memory, or to hide HTML, are checked within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.artefacts.formats.bounded import limit_of
from hubdpo.artefacts.formats.front_matter import fields, read_yaml
from hubdpo.cards.lint.body import MOST_CHARACTERS, lint_body
from hubdpo.cards.lint.lint import MOST_FINDINGS, lint_card
from tests.limited import run_limited

NINE = ",".join
LEVELS = range(1, 10)
BOMBS = {
    "aliases": "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{i}: &a{i} [{NINE([f'*a{i - 1}'] * 9)}]\n" for i in LEVELS)
    + "license: *a9\n",
    "aliases of merged mappings": "a0: &a0 {x: 1, y: 2}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{NINE([f'*a{i - 1}'] * 9)}]}}\n" for i in LEVELS),
    "aliases of a long text": f"a: &a {'x' * 100_000}\nb: [{NINE(['*a'] * 10_000)}]\n",
    "an alias of what it is in": "a: &a [*a]\n",
    "an anchor that is given again": "a: &a [x]\nb: &a [*a]\n",
    "lists in lists": "a: " + "[" * 200_000,
    "closed lists in lists": "a: " + "[" * 100_000 + "]" * 100_000,
    "mappings in mappings": "{a: " * 100_000,
    "entries in entries": "- " * 400_000,
    "keys of keys": "? " * 400_000,
    "ever further in": "".join(" " * i + "a:\n" for i in range(1_000)),
    "many values": "a: [" + "1," * 400_000 + "]",
    "a number in sixties": "a: 1" + ":1" * 400_000,
    "more than is read": "a: " + "x" * 1_000_001,
}
"""Front matter that must be refused with a one-line message."""


@pytest.mark.parametrize("front", BOMBS.values(), ids=BOMBS)
def test_front_matter_beyond_a_limit_is_refused_in_one_line(front: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_yaml(front)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400
    assert fields(f"---\n{front}\n---\n") == {}


LONG = 400_000
BODIES = {
    "comments that never end": "<!-- ",
    "comments that never end, as blocks": "<!--\n\n",
    "tags that never end": "<a ",
    "quotes that never end": '<a x="',
    "brackets": "[",
    "pictures": "![",
    "links that never end": "[a](",
    "stars": "*a ",
    "stars and lines": "**a_b",
    "addresses that never end": "<http://a",
    "instructions": "<?",
    "quoted lines": "> ",
    "nested lists": "* a\n",
    "tables": "|a|b|\n|-|-|\n",
    "credentials of one kind": "sk-a",
    "addresses with names": "https://a:b",
    "keys that never end": "-----BEGIN PRIVATE KEY-----",
    "dead pictures": "![a](b)",
    "bad attributes": '<p onclick="x">\n\n',
}
LOOK = """
import sys
from hubdpo.cards.lint.lint import lint_card
from tests.cards.test_cards_hostile import BODIES, BOMBS, LONG
rows = {name: "license: mit\\n---\\n" + text * (LONG // len(text)) for name, text in BODIES.items()}
rows |= {name: text + "\\n---\\n" for name, text in BOMBS.items()}
for name in sys.argv[1:]:
    found = lint_card("---\\n" + rows[name], "dataset", {})
    print(sum(len(one.message) for one in found), len(found), name)
"""


@pytest.mark.parametrize("name", [*BODIES, "aliases", "closed lists in lists"])
def test_checking_a_card_takes_bounded_time_and_memory(name: str) -> None:
    done = run_limited(["-c", LOOK, name], cwd=Path(__file__).parents[2])
    assert done.code == 0, done.err
    said, count = map(int, done.out.split()[:2])
    assert 0 < count <= MOST_FINDINGS + 1
    assert said <= 450 * count


def test_many_problems_are_cut_to_a_limit_with_a_note() -> None:
    found = lint_card("---\nlicense: mit\n---\n" + "![a](b)\n\n" * 200, "dataset", {})
    assert len(found) == MOST_FINDINGS + 1
    assert "has more than these" in found[-1].message


def test_a_body_beyond_the_limit_is_noted() -> None:
    (found,) = lint_body("", "word " * (MOST_CHARACTERS // 5 + 1), {})
    assert f"of which {MOST_CHARACTERS:,} were checked" in found.message


@pytest.mark.parametrize(
    "html",
    [
        "<script>x()</script>",
        "<SCRIPT>x()</SCRIPT>",
        "<!--><script>x()</script>-->",
        "<!-- --!><script>x()</script>-->",
        "<!-- never closed <script>x()</script>",
        "<div><svg/onload=x()></div>",
        '<img alt="a>b" onerror=x()>',
        "<img src=plots.png\nonerror=x()>",
        '<a href="ok.md" href="javascript:x()">a</a>',
        '<a href="java&#115;cript:x()">a</a>',
        "<a href='javascript:x()'>a</a>",
        "<a href = javascript:x()>a</a>",
        '<p title="<b>" style="position:fixed">x</p>',
        "<iframe\nsrc=x>",
    ],
)
def test_unsafe_html_is_found(html: str) -> None:
    found = list(lint_body("", html + "\n", {"ok.md", "plots.png"}))
    assert [one for one in found if one.field == "html"]


@pytest.mark.parametrize(
    "html",
    [
        "<!-- <script>x()</script> -->",
        "<!-- a --><b>x</b><!-- b -->",
        "<p title='a < b > c'>x</p>",
        '<img src="ok.md" alt="<script>" width=1>',
        "<br/>",
        "<details open><summary>x</summary></details>",
        "a < b and c > d",
    ],
)
def test_safe_html_passes(html: str) -> None:
    assert not list(lint_body("", html + "\n", {"ok.md"}))


def test_aliases_of_a_few_values_are_read_as_ever() -> None:
    front = "a: &a [1, 2]\nb: *a\nc: &c {x: 1}\nd: {<<: *c, y: 2}\n"
    assert read_yaml(front) == {"a": [1, 2], "b": [1, 2], "c": {"x": 1}, "d": {"x": 1, "y": 2}}


def test_a_card_may_be_long() -> None:
    assert limit_of("README.md") >= 2_000_000
    rows = "".join(f"- config_name: c{i}\n  data_files: [{{split: train, path: d/{i}/*}}]\n" for i in range(2_000))
    assert len(fields(f"---\nconfigs:\n{rows}---\n")["configs"]) == 2_000
