"""Markdown of people nobody knows, as HTML that can do nothing: no script, no style, no form, no request elsewhere.

markdown-it-py writes HTML, and nh3 has the last word: what it returns is the only text that templates take as markup.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import NamedTuple

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

MOST_CHARACTERS = 100_000
"""Characters that are formatted: some texts take the time of their length squared, 3 s at this length."""
DEEPEST = 500
"""Elements inside each other, above which HTML in a text is shown as text: cleaning takes the square of the depth."""
ANCHOR = "card-"
"""Begins the ids of headings, so that no heading takes an id of the page itself."""
ELSEWHERE = "elsewhere:"
"""Begins the address of a picture from elsewhere, until a link takes its place."""
PLAIN = (
    "p br hr h1 h2 h3 h4 h5 h6 blockquote pre code kbd samp var em strong b i u s del ins sub sup mark small q cite "
    "abbr ul ol li dl dt dd table thead tbody tfoot tr th td caption details summary div span center a img "
    "figure figcaption"
)
TAGS = set(PLAIN.split())
ATTRIBUTES = {
    "a": {"href", "title"}, "img": {"src", "alt", "title", "width", "height", "align"}, "ol": {"start"},
    "p": {"align"}, "div": {"align"}, "td": {"align", "colspan", "rowspan"}, "th": {"align", "colspan", "rowspan"},
    "abbr": {"title"}, "details": {"open"}, **{f"h{level}": {"id", "align"} for level in range(1, 7)},
}  # fmt: skip
_CELLS = re.compile("[0-9]{1,3}")
VALUES = {
    "align": re.compile("left|center|right"), "width": re.compile("[0-9]{1,4}%?"), "height": re.compile("[0-9]{1,4}"),
    "colspan": _CELLS, "rowspan": _CELLS, "start": re.compile("[0-9]{1,9}"),
    "id": re.compile(rf"{ANCHOR}[\w-]+"),
}  # fmt: skip
"""What the value of an attribute may be, where any text could do harm or break the page."""
WITH_CONTENT = {"script", "style", "title", "textarea", "noscript", "svg", "math", "iframe", "object", "template"}
"""Elements that go with all that is in them."""
VOID = {"br", "hr", "img", "input", "meta", "link", "source", "wbr", "col", "area", "base", "embed", "track"}
"""Elements that no end tag closes."""
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_ADDRESS = re.compile(r"(https?://[^\s<>\"'`]*[^\s<>\"'`.,;:!?*_~)\]])")
_TASK = re.compile(r"\[([ xX])\] ")
_PICTURE_OR_LINK = re.compile(r'<(/?)(a|img)((?: [a-z]+(?:="[^"]*")?)*)>')
_ATTRIBUTE = re.compile(r' ([a-z]+)="([^"]*)"')


class Targets(NamedTuple):
    """Where links and pictures lead: functions from what a card says to an address, None to drop the link.

    `picture` returns None for every picture that this server does not have, such as one on another host.
    """

    link: Callable[[str], str | None]
    picture: Callable[[str], str | None]


class Formatted(NamedTuple):
    html: Markup
    is_cut: bool
    """Whether the text has more than MOST_CHARACTERS, the rest of which is left out."""


def format_markdown(text: str, targets: Targets) -> Formatted:
    """Turn Markdown with raw HTML into markup for a page."""
    most = text[:MOST_CHARACTERS]
    part = text if most == text else most.rpartition("\n")[0] or most
    html = _parser(True).render(part)
    if _depth(html) > DEEPEST:
        html = _parser(False).render(part)
    # twice: pictures from elsewhere become links between, and nothing follows the second time
    html = _sanitised(html, targets.link, lambda source: targets.picture(source) or ELSEWHERE + source)
    html = _sanitised(_without_pictures_from_elsewhere(html))
    return Formatted(Markup(html), len(part) < len(text))


def _depth(html: str) -> int:
    """Return how deep elements are open inside each other, if each end tag closes one."""
    depth = deepest = 0
    for match in _TAG.finditer(html):
        if match[2].lower() not in VOID:
            depth = max(depth + (-1 if match[1] else 1), 0)
            deepest = max(deepest, depth)
    return deepest


def _sanitised(
    html: str, link: Callable[[str], str | None] | None = None, picture: Callable[[str], str | None] | None = None
) -> str:
    def attribute(tag: str, name: str, value: str) -> str | None:
        if name == "href":
            return link(value) if link else value
        if name == "src":
            return picture(value) if picture else (value if re.match("/(?!/)", value) else None)
        allowed = VALUES.get(name)
        return value if allowed is None or allowed.fullmatch(value) else None

    return nh3.clean(
        html, tags=TAGS, attributes=ATTRIBUTES, clean_content_tags=WITH_CONTENT, attribute_filter=attribute,
        url_schemes={"http", "https", "mailto", ELSEWHERE.rstrip(":")}, link_rel="noopener noreferrer",
    )  # fmt: skip


def _without_pictures_from_elsewhere(html: str) -> str:
    """Replace each picture that is not ours by its alternative text and, outside a link, a link to it."""
    inside = False

    def replaced(match: re.Match[str]) -> str:
        nonlocal inside
        if match[2] == "a":
            inside = not match[1]
            return match[0]
        values = dict(_ATTRIBUTE.findall(match[3]))
        source = values.get("src", "")
        if not source.startswith(ELSEWHERE):
            return match[0] if source else ""
        source = source.removeprefix(ELSEWHERE)
        words = (values.get("alt") or "picture").replace("<", "&lt;").replace(">", "&gt;")
        is_address = source.lower().startswith(("http://", "https://"))
        return words if inside or not is_address else f'<a href="{source}">{words}</a>'

    return _PICTURE_OR_LINK.sub(replaced, html)


@functools.cache
def _parser(html: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": html}).enable(["table", "strikethrough"])
    parser.core.ruler.push("hubdpo", lambda state: _changed(state.tokens))
    return parser


def _changed(tokens: Sequence[Token]) -> None:
    """Give headings ids, and write task lists, bare addresses and the alignment of cells in HTML that is allowed."""
    seen: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if style := token.attrs.pop("style", None):  # `text-align:right`
            token.attrs["align"] = str(style).rpartition(":")[2]
        if token.type == "heading_open":
            said = (part.content for part in tokens[place + 1].children or () if part.type in ("text", "code_inline"))
            slug = slug_of("".join(said))
            seen[slug] = seen.get(slug, -1) + 1
            token.attrs["id"] = f"{ANCHOR}{slug}{f'-{seen[slug]}' if seen[slug] else ''}"
        if token.type == "inline" and token.children:
            if place > 1 and tokens[place - 2].type == "list_item_open" and (task := _TASK.match(token.content)):
                first = token.children[0]
                first.content = ("☐ " if task[1] == " " else "☑ ") + first.content[len(task[0]) :]
            token.children = [*_outside_links(token.children)]


def slug_of(words: str) -> str:
    """Return the id of a heading as GitHub and the Hub make it; there, one that is repeated gets a number."""
    return re.sub(r"[^\w-]+", "", words.strip().lower().replace(" ", "-"))[:200] or "section"


def _outside_links(children: Sequence[Token]) -> Iterator[Token]:
    """Return each token of a line, or the tokens that replace it, where a bare address becomes a link."""
    depth = 0
    for child in children:
        depth += (child.type == "link_open") - (child.type == "link_close")
        yield from _linked(child.content) if child.type == "text" and depth == 0 else [child]


def _linked(text: str) -> list[Token]:
    return [
        Token("html_inline", "", 0, content=f'<a href="{escape(part)}">{escape(part)}</a>')
        if place % 2
        else Token("text", "", 0, content=part)
        for place, part in enumerate(_ADDRESS.split(text))
    ]
