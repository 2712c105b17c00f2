"""What people wrote in a card is found again wherever it stands; rows that are quoted there are not taken for it."""

from __future__ import annotations

import random

import pytest

from hubdpo.artefacts.formats.kept_sections import NOTE, Card, Section, join_card, merge_kept, split_card
from hubdpo.errors import ArtefactError

CARD = """---
license: mit
# no heading
---

# Title

Words.

```text
<!-- hubdpo:keep -->
# no heading either
```

## Limits

* one
## Licence

MIT.
"""
TABLE = "## Changes\n\n| version |\n|---|"


def section(text: str, *, place: str | None = None, name: str = "") -> Section:
    return Section(name, place, text)


def test_an_empty_section_says_what_it_is_for() -> None:
    card = join_card(Card(CARD))
    assert card.startswith(CARD)
    assert NOTE in card
    assert split_card(card) == Card(CARD)


@pytest.mark.parametrize("place", ["", "# Title", "## Limits", None])
def test_a_section_comes_back_where_it_stood(place: str | None) -> None:
    card = Card(CARD, (section("Mine.\n\n## Own heading", place=place, name="a"), section("Two", place=place)), TABLE)
    assert split_card(join_card(card)) == card


@pytest.mark.parametrize(
    ("place", "before"), [("", "# Title"), ("# Title", "## Limits"), ("## Limits", "## Licence"), ("## Gone", None)]
)
def test_a_section_stands_at_the_end_of_its_part(place: str, before: str | None) -> None:
    text = join_card(Card(CARD, (section("Mine.", place=place),), TABLE))
    after = text.partition("<!-- /hubdpo:keep -->")[2].strip()
    assert after.partition("\n")[0] == (before or "")


def test_what_is_typed_into_the_section_is_found() -> None:
    typed = join_card(Card(CARD)).replace(NOTE, f"{NOTE}\nMine.\n")
    assert split_card(typed).kept == (section("Mine."),)
    assert NOTE not in join_card(split_card(typed))


def test_markers_in_code_are_text() -> None:
    row = "```text\n<!-- hubdpo:keep -->\nevil\n<!-- /hubdpo:keep -->\n```\n"
    assert split_card(CARD + row) == Card(CARD + row)


def test_a_code_block_inside_a_section_may_hold_the_marker() -> None:
    text = "```text\n<!-- /hubdpo:keep -->\n```"
    assert split_card(join_card(Card(CARD, (section(text),)))).kept == (section(text),)


@pytest.mark.parametrize(
    "text", ["<!-- hubdpo:keep -->\nMine.\n", "<!-- hubdpo:keep -->\n```\n<!-- /hubdpo:keep -->\n"]
)
def test_a_section_that_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError, match="never closed"):
        split_card(CARD + text)


FENCES = {
    "longer closing fence": ("```\nx\n`````", False),
    "shorter closing fence": ("````\nx\n```", True),
    "other closing fence": ("```\nx\n~~~", True),
    "info string": ("``` py\nx\n```", False),
    "backtick in the info string": ("```a`b\nx", False),
    "indented by three": ("   ```\nx\n   ```", False),
    "indented by four": ("    ```\nx", False),
    "indented by a tab": (" \t```\nx", False),
    "closing fence indented by four": ("```\nx\n    ```", True),
    "carriage return": ("a\rb\n```\nx\n```", False),
}


@pytest.mark.parametrize("name", FENCES)
def test_code_blocks_are_those_of_commonmark(name: str) -> None:
    body, is_open = FENCES[name]
    text = f"{body}\n<!-- hubdpo:keep -->\nMine.\n<!-- /hubdpo:keep -->\n"
    assert split_card(text).kept == (() if is_open else (section("Mine."),))
    if is_open:
        with pytest.raises(ArtefactError, match="never closed"):
            join_card(Card(f"{body}\n"))
    else:
        assert split_card(join_card(Card(f"{body}\n"))).generated == f"{body}\n"


def test_a_card_with_open_code_takes_no_sections() -> None:
    with pytest.raises(ArtefactError, match="code block"):
        join_card(Card("# Title\n\n```\ncode\n"))


def test_other_line_ends_are_the_same_card() -> None:
    assert split_card(join_card(Card(CARD)).replace("\n", "\r\n")).generated == CARD


def test_any_card_comes_back() -> None:
    draw = random.Random(0)
    lines = ["```", "````", "~~~", "# a", "## b", "", "", "---", "text", "    ```", "> q"]
    texts = ["mine", "two\n\n# a\n\nthree", "```\n<!-- /hubdpo:keep -->\n```"]
    tried = 0
    for _ in range(3000):
        body = "\n".join(draw.choices(lines, k=draw.randint(1, 12))).strip("\n") + "\n"
        kept = [section(draw.choice(texts), place=draw.choice([None, "", "# a", "## b", "# gone"])) for _ in "ab"]
        try:
            card = join_card(Card(body, tuple(kept), draw.choice([None, TABLE])))
        except ArtefactError:  # code that is not closed
            continue
        tried += 1
        back = split_card(card)
        assert back.generated == body
        assert sorted(one.text for one in back.kept) == sorted(one.text for one in kept)
        assert join_card(back) == card
    assert tried > 1000


@pytest.mark.parametrize(
    ("start", "theirs", "ours", "merged"),
    [
        ("", "", "", ""), ("", "t", "", "t"), ("", "", "o", "o"), ("", "x", "x", "x"),
        ("s", "s", "s", "s"), ("s", "t", "s", "t"), ("s", "s", "o", "o"), ("s", "x", "x", "x"),
        ("s", "", "s", ""), ("s", "s", "", ""), ("s", "t", "o", None), ("", "t", "o", None), ("s", "", "o", None),
    ],
)  # fmt: skip
def test_two_sides_are_brought_together(start: str, theirs: str, ours: str, merged: str | None) -> None:
    sides = [(section(text),) if text else () for text in (start, theirs, ours)]
    if merged is None:
        with pytest.raises(ArtefactError, match="both here and on the Hub"):
            merge_kept(sides[0], theirs=sides[1], ours=sides[2])
    else:
        found = merge_kept(sides[0], theirs=sides[1], ours=sides[2])
        assert found == ((section(merged),) if merged else ())
