"""`unpaired`: one answer a row, with a label whether it is a good one (KTO, arXiv 2402.01306)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.converters.asking import Reads, ask_row, prompts
from hubdpo.data.converters.choice import Choice
from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.converters.verdicts import normal
from hubdpo.data.pairs.example import Rated, Rejection
from hubdpo.data.pairs.messages import first_of, messages_of

Row = dict[str, Any]
KTO_LABELS = ("kto_tag", "desirable", "is_desirable", "thumbs_up")
LABELS = (*KTO_LABELS, "label")
WHOLE = ("messages", "conversations", "conversation")
PROMPTS, ANSWERS = ("prompt", "instruction", "question", "query"), ("completion", "response", "output", "answer")
READS: Reads = (
    LABELS,
    (*WHOLE, *((*((way,) if isinstance(way, str) else way), answer)
               for name in PROMPTS for way in (*prompts(name), name) for answer in ANSWERS)),
    "history",
)  # fmt: skip
WORDS = (
    ("good", "bad"), ("desirable", "undesirable"), ("desired", "undesired"), ("chosen", "rejected"),
    ("accepted", "rejected"), ("preferred", "dispreferred"), ("correct", "incorrect"), ("helpful", "unhelpful"),
    ("like", "dislike"), ("liked", "disliked"), ("upvote", "downvote"), ("upvoted", "downvoted"),
    ("thumbsup", "thumbsdown"), ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"), ("好", "坏"), ("赞", "踩"),
)  # fmt: skip
"""What calls an answer good or bad, whatever the column. `positive` may be a mood and `yes` the answer to anything."""
GOOD, BAD = ({words[side] for words in WORDS} for side in (0, 1))
MEANINGS = {"good": 1.0, "bad": 0.0}
NUMBERS = {"true": 1.0, "1": 1.0, "false": 0.0, "0": 0.0, "-1": 0.0}
"""What says it in the columns that KTO's own formats have."""


def detect(row: Row) -> bool:
    """Tell a row with an answer and a label of any meaning; what it means `convert` and `--labels` say."""
    if not isinstance(first_of(row, LABELS), (bool, int, float, str)):
        return False
    if isinstance(first_of(row, WHOLE), list):
        return True
    return first_of(row, PROMPTS) is not None and first_of(row, ANSWERS) is not None


def convert(row: Row, how: Choice) -> Rated:
    """Return the answer with score 1 or 0; it becomes a pair with an answer of the other label to the same prompt."""
    score = _score(row, how.labels)
    if (value := first_of(row, WHOLE)) is not None:
        whole = messages_of(value)
        if not whole or whole[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        return ask(whole[:-1], system=system_of(row)).rated(whole[-1:], score)
    return ask_row(row, PROMPTS).rated(first_of(row, ANSWERS), score)


def _score(row: Row, labels: dict[str, str] | None) -> float:
    column = label_column(row)
    if column is None:
        raise Rejection("missing_field")
    text = normal(row[column])
    if labels is not None:
        meaning = labels.get(text)
        if meaning == "tie":
            raise Rejection("tie")
        score = MEANINGS.get(meaning or "")
        if score is None and not any(
            _score_of_words(one) not in (None, MEANINGS.get(said)) for one, said in labels.items()
        ):
            score = _score_of_words(text)  # what words say by themselves, unless a label contradicts one
    else:
        score = _score_of_words(text)
        if score is None and (column in KTO_LABELS or _is_published(row)):
            score = NUMBERS.get(text)
    if score is None:
        raise Rejection("unknown_label")
    return score


def label_column(row: Row) -> str | None:
    return next((name for name in LABELS if row.get(name) is not None), None)


def says_good(value: Any) -> bool | None:
    """Tell whether a value by itself calls an answer good, or bad; None where it may mean anything."""
    score = _score_of_words(normal(value))
    return None if score is None else bool(score)


def _score_of_words(text: str) -> float | None:
    word = "".join(character for character in text.lower() if character.isalpha() or character in "👍👎")
    return 1.0 if word in GOOD else 0.0 if word in BAD else None


def _is_published(row: Row) -> bool:
    """Tell the columns of TRL and LLaMA-Factory, beside which `label` is true for a good answer.

    Beside others, such as `question` and `answer`, 1 may just as well mark what is toxic, or made up.
    """
    return isinstance(row.get("messages"), list) or (row.get("prompt") is not None and "completion" in row)
