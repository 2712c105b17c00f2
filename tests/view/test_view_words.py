"""Which words of two texts are marked."""

from __future__ import annotations

import random
import time

import pytest

from hubdpo.view.words import Piece, marked, with_found


def differing(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces if piece.differs]


@pytest.mark.parametrize(
    ("first", "second", "of_first", "of_second"),
    [
        ("the cat sat on the mat", "the dog sat on the mat", ["cat"], ["dog"]),
        ("it is good", "it is very good", [], ["very "]),
        ("one two three four", "one 2 3 four", ["two three"], ["2 3"]),
        ("我喜欢喝茶", "我喜欢喝水", ["茶"], ["水"]),
        ("same", "same", [], []),
        ("", "all of it", [], []),
        ("quite other words here", "nothing that they share", [], []),
        ("call f(1)", "call f(2)", ["1"], ["2"]),
    ],
)
def test_words_that_the_other_text_has_not_are_marked(
    first: str, second: str, of_first: list[str], of_second: list[str]
) -> None:
    one, other = marked(first, second)
    assert (differing(one), differing(other)) == (of_first, of_second)


def test_no_character_is_lost_and_what_is_not_marked_is_the_same() -> None:
    chance = random.Random(0)
    words = ["a", "b ", " c", "\n", "你", "好", "é", "  ", "(", "d-e", "", "ü\u0308"]
    for _ in range(500):
        first, second = ("".join(chance.choices(words, k=chance.randint(0, 30))) for _ in range(2))
        pieces = marked(first, second)
        assert ["".join(piece.text for piece in side) for side in pieces] == [first, second]
        searched = with_found(pieces[0], chance.choice(["a", "B", "c", "你好", "\n", ""]))
        assert "".join(piece.text for piece in searched) == first
        assert [p for p in searched if not p.text] == []
        assert differing(searched) == [] or "".join(differing(searched)) == "".join(differing(pieces[0]))


def test_every_place_of_a_text_is_found_in_any_case() -> None:
    pieces = with_found([Piece("Tea and t"), Piece("EA, (tea", differs=True)], "tea")
    assert [piece.text for piece in pieces if piece.found] == ["Tea", "t", "EA", "tea"]
    assert [piece.found for piece in with_found([Piece("a.c abc")], "a.c")] == [True, False]


def test_long_texts_do_not_keep_a_reader_waiting() -> None:
    chance = random.Random(0)
    texts = [" ".join(chance.choices(["the", "of", "and", *map(str, range(50))], k=20_000)) for _ in range(2)]
    started = time.process_time()
    marked(*texts)
    assert time.process_time() - started < 2
