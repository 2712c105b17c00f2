"""`unpaired`: one answer per row, with a label that calls it good or bad (KTO, arXiv 2402.01306)."""

from __future__ import annotations

from collections.abc import Mapping

from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.prompts import SYSTEM, Reads, prompt_group, read_prompt, read_prompt_of, system_of
from hubdpo.data.converters.vote_words import normalize
from hubdpo.data.pairs.example import Rejection, Row, ScoredAnswer
from hubdpo.data.pairs.messages import first_of, messages_of

KTO_LABELS = ("kto_tag", "desirable", "is_desirable", "thumbs_up")
LABELS = (*KTO_LABELS, "label")
CONVERSATIONS = ("messages", "conversations", "conversation")
PROMPTS, ANSWERS = ("prompt", "instruction", "question", "query"), ("completion", "response", "output", "answer")
WORDS = (
    ("good", "bad"), ("desirable", "undesirable"), ("desired", "undesired"), ("chosen", "rejected"),
    ("accepted", "rejected"), ("preferred", "dispreferred"), ("correct", "incorrect"), ("helpful", "unhelpful"),
    ("like", "dislike"), ("liked", "disliked"), ("upvote", "downvote"), ("upvoted", "downvoted"),
    ("thumbsup", "thumbsdown"), ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"), ("好", "坏"), ("赞", "踩"),
)  # fmt: skip
"""Words that call an answer good or bad in any column. `positive` may be a mood, and `yes` the answer to anything."""
GOOD, BAD = ({words[side] for words in WORDS} for side in (0, 1))
MEANINGS = {"good": True, "bad": False}
FLAGS = {"true": True, "1": True, "false": False, "0": False, "-1": False}
"""Values that say good or bad in the columns of KTO's own formats only."""


def detect(row: Row) -> bool:
    """Return whether a row has an answer and a label, whatever the label means."""
    if not isinstance(first_of(row, LABELS), (bool, int, float, str)):
        return False
    if isinstance(first_of(row, CONVERSATIONS), list):
        return True
    return first_of(row, PROMPTS) is not None and first_of(row, ANSWERS) is not None


def convert(row: Row, how: ConvertOptions) -> ScoredAnswer:
    """Return the answer with score 1 or 0, to be paired with an answer of the other score to the same prompt."""
    column = label_column(row)
    if column is None:
        raise Rejection("missing_field")
    flags = FLAGS if column in KTO_LABELS or _is_published_format(row) else {}
    score = float(is_good(row[column], how.labels, flags))
    if (value := first_of(row, CONVERSATIONS)) is not None:
        messages = messages_of(value)
        if not messages or messages[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        return read_prompt(messages[:-1], system=system_of(row)).scored(messages[-1:], score)
    return read_prompt_of(row, PROMPTS).scored(first_of(row, ANSWERS), score)


def label_column(row: Row) -> str | None:
    return next((name for name in LABELS if row.get(name) is not None), None)


def says_good(text: str) -> bool | None:
    """Return whether a normalized value by itself calls an answer good; None if it may mean anything."""
    word = "".join(character for character in text.lower() if character.isalpha() or character in "👍👎")
    return True if word in GOOD else False if word in BAD else None


def is_good(value: object, labels: dict[str, str] | None, flags: Mapping[str, bool]) -> bool:
    """Return whether a label calls an answer good: by `labels`, or else by its word or by `flags`.

    Raise Rejection for a tie, and for a value of unknown meaning.
    """
    text = normalize(value)
    if labels is None:
        good = says_good(text)
        if good is None:
            good = flags.get(text)
    elif labels.get(text) == "tie":
        raise Rejection("tie")
    else:
        good = MEANINGS.get(labels.get(text, ""))
        # where labels give a word another meaning than its own, no unlisted word can be trusted
        if good is None and all(says_good(value) in (None, MEANINGS.get(name)) for value, name in labels.items()):
            good = says_good(text)
    if good is None:
        raise Rejection("unknown_label")
    return good


def _is_published_format(row: Row) -> bool:
    """Return whether a row has the columns of TRL or LLaMA-Factory, where `label` is true for a good answer.

    Beside other columns, such as `question` and `answer`, 1 may just as well mark a toxic or made-up answer.
    """
    return isinstance(row.get("messages"), list) or (row.get("prompt") is not None and "completion" in row)


ONE_ANSWER = tuple(
    (*((way,) if isinstance(way, str) else way), answer)
    for name in PROMPTS
    for way in (*prompt_group(name), name)
    for answer in ANSWERS
)
READS: Reads = (LABELS, (*CONVERSATIONS, *ONE_ANSWER), "history", SYSTEM)
UNPAIRED = Converter(
    "unpaired", "one answer with a label", detect, convert, READS, options=("pairs", "min_margin", "labels")
)
