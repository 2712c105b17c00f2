"""The card: Markdown as the Hub shows it, of which nothing can act."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest

from hubdpo.view.markdown import MOST_CHARACTERS, Targets, format_markdown
from hubdpo.view.release.card import results, tags

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<form action='https://evil.example'><input name=a><button formaction='javascript:alert(1)'>x</button></form>",
    "<style>body { display: none }</style><p style='position:fixed'>x</p>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<a href='javascript:alert(1)'>x</a> [x](javascript:alert(1)) [x](vbscript:x) [x](data:text/html,x)",
    "<a href='java\tscript:alert(1)'>x</a> <a href=' &#106;avascript:alert(1)'>x</a>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<div id=main class=top data-live=1 onclick=alert(1)><h2 id=keys name=keys>x</h2></div>",
    "<a href='/x' title='<img src=//evil.example/a.png>'>x</a> <img alt='<img src=//evil.example/a.png>' src=x>",
    "<img src=elsewhere:https://evil.example/a.png> <a href='elsewhere:javascript:alert(1)'>x</a>",
    "<object data=x></object><embed src=x><link rel=stylesheet href=//evil.example/a.css><textarea></textarea>",
    "<video src=//evil.example/v><source src=//evil.example/v></video><audio autoplay src=//evil.example/a></audio>",
]
ELEMENTS = {"p", "a", "h2", "div", "table", "tbody", "tr", "td"}
"""What may be left of HOSTILE; none of it has attributes beyond these."""
NAMES = {"href", "title", "rel", "align"}


class Seen(HTMLParser):
    """The elements of a text, and the names and values of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}


TARGETS = Targets(lambda link: link if link.startswith(("https:", "/", "#")) else None, lambda _: None)


def html(text: str, targets: Targets = TARGETS) -> str:
    return str(format_markdown(text, targets).html)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_card_can_act(text: str) -> None:
    seen = Seen(html(text))
    assert seen.elements <= ELEMENTS and {name for name, _ in seen.attributes} <= NAMES
    links = [value for name, value in seen.attributes if name == "href"]
    assert not [link for link in links if not link.startswith(("https:", "/"))]


def test_github_flavoured_markdown() -> None:
    shown = html(
        "# A *b* `c`\n\n# A b c\n\n~~x~~\n\n- [ ] todo\n- [x] done\n\n|a|b|\n|-|-:|\n|1|2|\n\nhttps://a.example/x."
    )
    for part in (
        '<h1 id="card-a-b-c">', '<h1 id="card-a-b-c-1">', "<s>x</s>", "☐ todo", "☑ done", '<td align="right">2</td>',
        '<a href="https://a.example/x" rel="noopener noreferrer">https://a.example/x</a>.',
    ):  # fmt: skip
        assert part in shown


def test_a_picture_from_elsewhere_is_a_link_with_its_words() -> None:
    assert '<a href="https://e.example/a.png?x=1&amp;y=2" rel="noopener noreferrer">A &amp; b</a>' in html(
        "![A & b](https://e.example/a.png?x=1&y=2)"
    )
    assert html("[![CI](https://e.example/ci.svg)](https://ci.example)").count("<a ") == 1
    assert "<img" not in html("![x](data:image/svg+xml,x)")


def test_a_picture_of_ours_is_shown() -> None:
    targets = Targets(TARGETS.link, lambda source: f"/image/{source}")
    assert '<img src="/image/a.png" alt="x">' in html("![x](a.png)", targets)
    assert "evil" not in html("![x](a.png)", Targets(TARGETS.link, lambda _: "//evil.example/a.png"))


@pytest.mark.parametrize("text", ["[" * 10**6, "<div>" * 10**5, "> " * 10**5])
def test_a_long_card_is_cut_and_takes_seconds(text: str) -> None:
    started = time.process_time()
    assert format_markdown(text, TARGETS).is_cut
    assert time.process_time() - started < 60  # the square of a million would take hours


def test_html_that_is_too_deep_is_shown_as_text() -> None:
    assert "&lt;div&gt;" in html("<div>" * 501) and "&lt;div&gt;" not in html("<div>" * 499 + "<br>" * 1000)
    assert "<b>" not in html("<div>" * 501 + "<b>x</b>") and "<strong>" in html("<div>" * 501 + "\n\n**x**")


def test_a_card_is_cut_at_the_end_of_a_line() -> None:
    shown = format_markdown("word word\n" * (MOST_CHARACTERS // 10 + 1), TARGETS)
    assert shown.is_cut and shown.html.rstrip().endswith("word word</p>")


def test_front_matter_becomes_tags_each_once() -> None:
    about = {"license": "mit", "language": ["en", "zh"], "tags": ["dpo", "mit", {"no": 1}, "<b>"], "datasets": None}
    assert [tag.value for tag in tags(about)] == ["mit", "en", "zh", "dpo", "<b>"]


@pytest.mark.parametrize("index", [None, "x", [1], [{"results": {"a": 1}}], [{"results": [{"metrics": "x"}]}]])
def test_a_model_index_of_another_form_gives_no_rows(index: object) -> None:
    assert results({"model-index": index}) == []


def test_a_model_index_becomes_rows() -> None:
    metric = {"type": "accuracy", "value": 0.8123456789, "verified": True}
    index = [{"results": [{"task": {"type": "t"}, "dataset": {"name": "D", "type": "d"}, "metrics": [metric]}]}]
    row = {"task": "t", "dataset": "D", "metric": "accuracy", "value": "0.812346", "verified": "yes"}
    assert results({"model-index": index}) == [row]
