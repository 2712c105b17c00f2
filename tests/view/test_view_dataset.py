"""The pages of a dataset, without a browser."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.artefacts.manifests.prepare import Source
from hubdpo.view.dataset import dropped
from hubdpo.view.dataset.dropped import Lines
from hubdpo.view.dataset.turns import MOST_SHOWN, pair_of
from hubdpo.view.thing import Thing
from tests.view.ask import ask, page, words
from tests.view.made_datasets import HOSTILE, made_up, pair, thing_of, write_dataset

CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="row-(\d+)"', html)]


@pytest.fixture(scope="module")
def thing(tmp_path_factory: pytest.TempPathFactory) -> Thing:
    folder = tmp_path_factory.mktemp("view") / "d"
    sources = [
        Source(name="a.jsonl", sha256="1" * 64, size=1, pairs={"train": 30}, dropped={"tie": 2}),
        Source(name="b.jsonl", sha256="2" * 64, size=1, pairs={"train": 20, "test": 9}, dropped={"empty_answer": 151}),
    ]
    dropped: list[dict[str, Any]] = [
        {"source": "b.jsonl", "line": line, "reason": "empty_answer"} for line in range(150)
    ]
    dropped += [{"source": "a.jsonl", "line": 7, "reason": "tie", "fields": {"reason": "str of 5", "x": "int"}}] * 2
    dropped.append({"source": "b.jsonl", "line": 999, "reason": "empty_answer", "detail": "<b>here</b>"})
    return thing_of(
        write_dataset(folder, {"train": made_up(50), "test": made_up(9, 1)}, sources=sources, dropped=dropped)
    )


def test_rows_are_paged_and_every_row_is_linked(thing: Thing) -> None:
    first, second, last = page(thing), page(thing, "/viewer?from=20"), page(thing, "/viewer?from=40")
    assert [numbers(html) for html in (first, second, last)] == [[*range(20)], [*range(20, 40)], [*range(40, 50)]]
    assert "rows 20 to 39 of 50" in second
    assert 'rel="next" href="/?from=20"' in first and 'rel="prev"' not in first
    assert 'rel="prev" href="/viewer?from=20"' in last and 'rel="next"' not in last
    assert "row=45" in last


def test_a_row_has_its_own_page_with_its_neighbours_and_its_json(thing: Thing) -> None:
    html = page(thing, "/viewer?split=train&row=31")
    assert "Row 31 of train" in html and "row=30" in html and "row=32" in html
    assert "b.jsonl" in words(html)
    shown = json.loads(unescape(html.partition('<pre class="wrap">')[2].partition("</pre>")[0]))
    assert shown["chosen"][0]["content"].endswith("c31")


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        ("/viewer?row=50", 404, "`train` has 50 rows, numbered from 0"),
        ("/viewer?row=-1", 400, "`row` must be a whole number"),
        ("/viewer?row=x", 400, "`row` must be a whole number"),
        ("/viewer?split=dev", 400, "`split` must be one of: train, test"),
        ("/viewer?longer=both", 400, "`longer` must be one of"),
        ("/viewer?source=c.jsonl", 400, "no rows of this split come from"),
        ("/viewer?least=a", 400, "whole number"),
        ("/dropped?reason=other", 400, "`reason` must be one of"),
        ("/numbers/pie", 404, "no such plot"),
        ("/nothing", 404, "no such page"),
        ("/viewer/x/../../etc/passwd", 200, "rows 0 to 19"),
    ],
)
def test_an_address_that_means_nothing_says_so(thing: Thing, address: str, status: int, says: str) -> None:
    answer = ask(thing, address)
    assert answer.status == status
    assert says in unescape(words(answer.content.decode()))


def test_matches_are_paged_in_both_directions(thing: Thing) -> None:
    html = page(thing, "/viewer?q=tea")
    seen, addresses = numbers(html), 0
    while match := re.search(r'rel="next" href="([^"]*)"', html):
        html = page(thing, unescape(match[1]))
        seen += numbers(html)
        addresses += 1
    assert addresses and seen == sorted({*seen}) and len(seen) > 20
    back = re.search(r'rel="prev" href="([^"]*)"', html)
    assert back and numbers(page(thing, unescape(back[1]))) == seen[len(seen) - len(numbers(html)) - 20 :][:20]
    assert "found" in html


def test_filters_are_kept_in_the_form_and_in_the_links(thing: Thing) -> None:
    html = page(thing, "/viewer?q=tea&longer=chosen&source=b.jsonl&least=5&most=400")
    assert all(number >= 30 for number in numbers(html))
    for kept in ('value="tea"', 'value="chosen" selected', 'value="b.jsonl" selected', 'value="5"', 'value="400"'):
        assert kept in html
    assert "No row here fits" in page(thing, "/viewer?q=nowhereatall")


def test_the_words_that_differ_are_marked() -> None:
    shown = pair_of("train", 0, pair("q", "the cat sat on a mat", "the dog sat on a mat"), text="SAT")
    assert [piece.text for piece in shown.chosen[0].pieces if piece.differs] == ["cat"]
    assert [piece.text for piece in shown.rejected[0].pieces if piece.differs] == ["dog"]
    assert [piece.text for piece in shown.chosen[0].pieces if piece.found] == ["sat"]


def test_long_texts_are_cut_in_the_list_and_whole_on_their_page(tmp_path: Path) -> None:
    long = "word " * 3000
    thing = thing_of(write_dataset(tmp_path / "d", {"train": [pair("q", long, "short")]}))
    listed = page(thing)
    assert f"{len(long) - MOST_SHOWN:,} more characters" in listed and long not in listed
    assert long in page(thing, "/viewer?row=0")


def test_older_turns_of_a_long_prompt_are_folded(tmp_path: Path) -> None:
    row = pair("last", "a", "b")
    earlier = [{"role": ("user", "assistant")[i % 2], "content": f"turn {i}"} for i in range(8)]
    row["prompt"] = [*earlier, *row["prompt"]]
    thing = thing_of(write_dataset(tmp_path / "d", {"train": [row]}))
    assert "5 earlier turns" in page(thing)
    assert "earlier turn" not in page(thing, "/viewer?row=0")
    assert "earlier turn" not in page(thing, "/viewer?q=turn%200")


def test_tools_calls_and_reasoning_are_shown(tmp_path: Path) -> None:
    row = pair("Weather in Oslo?", "x", "I do not know", note="checked")
    row["chosen"] = [
        {"role": "assistant", "content": None, "reasoning_content": "I need the tool", "tool_calls": [CALL]},
        {"role": "tool", "name": "weather", "content": "4 degrees", "tool_call_id": "1"},
        {"role": "assistant", "content": "It is 4 degrees"},
    ]
    row["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    thing = thing_of(write_dataset(tmp_path / "d", {"train": [row, pair("q", "a", "b")]}))
    shown = unescape(words(page(thing)))
    for part in (
        "1 tool offered", "assistant, reasoning I need the tool", "assistant calls a tool", '"city": "Oslo"',
        "tool weather 4 degrees", '"tool_call_id": "1"', "note: checked",
    ):  # fmt: skip
        assert part in shown
    assert numbers(page(thing, "/viewer?q=4+degrees")) == [0]


@pytest.mark.parametrize("arguments", ["[" * 240 + "]" * 240, "[" * 5000, "{", "null", "7", '{"a": NaN}'])
def test_odd_arguments_of_a_call_are_shown_as_they_are(arguments: str) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    row = pair("q", "a", "b")
    row["chosen"] = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    assert arguments.strip("[]") in pair_of("train", 0, row).chosen[0].text.replace("\\", "")


def test_every_dropped_row_has_its_reason_file_and_line(thing: Thing) -> None:
    html = page(thing, "/dropped")
    assert "153 dropped rows of 212 read" in words(html)
    assert html.count('<td class="number">') >= 100 and 'rel="next" href="/dropped?from=100"' in html
    ties = unescape(words(page(thing, "/dropped?reason=tie")))
    assert ties.count("a.jsonl 7 tie reason: str of 5, x: int") == 2
    last = page(thing, "/dropped?reason=empty_answer&source=b.jsonl&from=100")
    assert "101 to 151 of 151" in last and "&lt;b&gt;here&lt;/b&gt;" in last
    assert "0 rows" in page(thing, "/dropped?reason=tie&source=b.jsonl")


def test_dropped_rows_are_found_wherever_a_block_of_their_file_ends(
    thing: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (7, 64, 100):
        monkeypatch.setattr(dropped, "READ_AT_ONCE", size)
        lines = Lines(thing)
        assert [len(lines.matching(*named)) for named in (("tie", ""), ("", "b.jsonl"), ("", ""))] == [2, 151, 153]


def test_a_dataset_without_its_list_of_dropped_rows_still_counts_them(thing: Thing, tmp_path: Path) -> None:
    sources = [Source(name="a", sha256="1" * 64, size=1, dropped={"tie": 2})]
    folder = write_dataset(
        tmp_path / "d", {"train": made_up(3)}, sources=sources, dropped=[{"line": 1, "reason": "tie"}]
    )
    (folder / "rejected.jsonl").unlink()
    assert "stays on the machine that prepared the data. By source: Source Reason Rows a tie 2" in words(
        page(thing_of(folder), "/dropped")
    )


def test_the_funnel_and_the_proof_of_the_split(thing: Thing) -> None:
    html = words(page(thing, "/numbers"))
    assert "read 212" in html and "dropped: tie −2" in html and "kept 59" in html
    until = time.monotonic() + 30
    while "Counted again from the rows just now: 0 ." not in html:
        assert time.monotonic() < until, html
        html = words(page(thing, "/numbers"))


def test_plots_are_drawn_for_both_themes(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text(
        "".join(json.dumps({"prompt": f"q {i}", "chosen": "yes " * i, "rejected": "no"}) + "\n" for i in range(1, 40))
    )
    prepare(source=[str(raw)], output_dir=tmp_path / "d")
    thing = thing_of(tmp_path / "d")
    for name in ("lengths", "turns"):
        light, dark = (ask(thing, f"/numbers/{name}?theme={theme}") for theme in ("light", "dark"))
        assert light.status == 200 and light.headers["Content-Type"] == "image/svg+xml"
        assert light.content != dark.content and b"<svg" in light.content and b"share of the pairs" in light.content
        assert light.content == ask(thing, f"/numbers/{name}?theme=light").content
    assert "/numbers/lengths?theme=dark" in page(thing, "/numbers")


def test_hostile_texts_are_escaped_wherever_they_come_from(tmp_path: Path) -> None:
    rows = [pair(f"{text} {i}", text, f"{text}!", note=text) for i, text in enumerate(HOSTILE)]
    sources = [
        Source(name=text, sha256="1" * 64, size=1, address=text, converter=text, pairs={"train": 1}, dropped={text: 1})
        for text in HOSTILE
    ]
    dropped = [{"source": t, "line": 1, "reason": t, "detail": t, "fields": {t: t}} for t in HOSTILE]
    thing = thing_of(write_dataset(tmp_path / "<b>d", {"train": rows}, sources=sources, dropped=dropped))
    for address in ("/", "/viewer?row=1", "/dropped", "/numbers", "/viewer?q=%3Cscript%3E", "/%3Cscript%3E"):
        html = ask(thing, address).content.decode()
        for text in HOSTILE:
            if "<" in text:
                assert text not in html.replace('<mark class="differs">', "")


def test_a_split_that_cannot_be_read_is_named_and_the_other_one_is_shown(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": made_up(30), "test": made_up(9)})
    for shard in (folder / "data").glob("train-*"):
        shard.unlink()
    thing = thing_of(folder)
    for address in ("/", "/numbers"):
        assert "train: `data/train-00000-of-00002.parquet` is missing" in words(page(thing, address))
    assert numbers(page(thing)) == [*range(9)]
    asked = ask(thing, "/viewer?split=train")
    assert asked.status == 500 and b"is missing" in asked.content


def test_files_with_other_rows_than_were_prepared_are_noticed(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": made_up(30)})
    other = write_dataset(tmp_path / "other", {"train": made_up(31)})
    for shard in (other / "data").iterdir():
        shard.replace(folder / "data" / shard.name)
    assert "the files have 31 rows, and prepare.json counts 30" in words(page(thing_of(folder)))


def test_a_file_that_is_gone_while_a_page_is_open_is_told(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": made_up(30)}, dropped=[{"line": 1, "reason": "tie"}])
    thing = thing_of(folder)
    (folder / "README.md").write_text("# card")
    addresses = ("/", "/dropped", "/card", "/blob/main/README.md", "/download/main/README.md")
    for address in addresses:
        assert ask(thing, address).status == 200
    for path in (*(folder / "data").iterdir(), folder / "README.md", folder / "rejected.jsonl"):
        path.unlink()
    for address in addresses:
        answer = ask(thing, address)
        assert answer.status == 404 and b"is not there any more" in answer.content, address


def test_rows_with_nulls_and_texts_that_are_none_are_shown(tmp_path: Path) -> None:
    rows = made_up(3)
    rows[1] |= {"chosen": None, "rejected": [None]}
    folder = write_dataset(tmp_path / "d", {"train": rows}, dropped=[{"line": 1, "reason": "tie"}])
    assert numbers(page(thing_of(folder))) == [0, 1, 2]
    manifest = (folder / "prepare.json").read_text().replace('"tie"', '"\\ud83d"')
    (folder / "prepare.json").write_text(manifest)
    for address in ("/numbers", "/dropped", "/blob/main/prepare.json"):
        assert ask(thing_of(folder), address).status == 200


def test_damaged_lines_of_dropped_rows_are_shown_as_such(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": made_up(3)}, dropped=[{"line": 1, "reason": "tie"}] * 4)
    lines = ['{"line": 1, "reason": "tie"}', '{"line": null, "reason": "tie"}', '{"line":', "[]", '{"line": 4, "rea']
    (folder / "rejected.jsonl").write_text("\n".join(lines))
    html = words(page(thing_of(folder), "/dropped"))
    assert "names 5 rows, and 4 were dropped" in html
    assert html.count("of rejected.jsonl is damaged") == 4 and "line 5 of rejected.jsonl is damaged" in html
