"""`unpaired`: one answer per row, with a label that calls it good or bad (KTO, arXiv 2402.01306)."""

from __future__ import annotations

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
MEANINGS = {"good": 1.0, "bad": 0.0}
FLAGS = {"true": 1.0, "1": 1.0, "false": 0.0, "0": 0.0, "-1": 0.0}
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
    score = _score(row, how.labels)
    if (value := first_of(row, CONVERSATIONS)) is not None:
        messages = messages_of(value)
        if not messages or messages[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        return read_prompt(messages[:-1], system=system_of(row)).scored(messages[-1:], score)
    return read_prompt_of(row, PROMPTS).scored(first_of(row, ANSWERS), score)


def label_column(row: Row) -> str | None:
    return next((name for name in LABELS if row.get(name) is not None), None)


def says_good(value: object) -> bool | None:
    """Return whether a value by itself calls an answer good; None if it may mean anything."""
    score = _score_of_word(normalize(value))
    return None if score is None else bool(score)


def _score(row: Row, labels: dict[str, str] | None) -> float:
    column = label_column(row)
    if column is None:
        raise Rejection("missing_field")
    text = normalize(row[column])
    if labels is None:
        score = _score_of_word(text)
        if score is None and (column in KTO_LABELS or _is_published_format(row)):
            score = FLAGS.get(text)
    elif labels.get(text) == "tie":
        raise Rejection("tie")
    else:
        score = MEANINGS.get(labels.get(text, ""))
        if score is None and not _contradict(labels):
            score = _score_of_word(text)
    if score is None:
        raise Rejection("unknown_label")
    return score


def _contradict(labels: dict[str, str]) -> bool:
    """Return whether labels give a word another meaning than its own. Then no unlisted word can be trusted."""
    return any(_score_of_word(value) not in (None, MEANINGS.get(meaning)) for value, meaning in labels.items())


def _score_of_word(text: str) -> float | None:
    word = "".join(character for character in text.lower() if character.isalpha() or character in "👍👎")
    return 1.0 if word in GOOD else 0.0 if word in BAD else None


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
