"""`--explain N`: what becomes of a row, from the bytes of the source to the tokens that training sees."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from hubdpo import console
from hubdpo.artefacts.formats.messages import Message
from hubdpo.cards.fences import visible
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.rows import clean
from hubdpo.data.clean.screen import unlisted
from hubdpo.data.pairs.example import NotText, PreferenceExample, Rejection, ScoredAnswer, change_names
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.raw.pieces import RawRow
from hubdpo.data.tokens.pair import encode_pair
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.secrets import find_secrets, redact

LONGEST = 600
FIRST_TOKENS = 24


def explain(rows: Iterable[RawRow], rules: Rules) -> None:
    """Print each row raw, as messages, rendered and in tokens; what looks like a credential is hidden."""
    for row in rows:
        console.info(f"── line {row.line}")
        if row.value is None:
            console.info(f"dropped: {row.problem}{row.detail and f', {row.detail}'}")
            continue
        _say("raw", orjson.dumps(row.value, default=str).decode())
        try:
            value = rules.screen.one(row.value)
            made = rules.convert(value)
            if isinstance(made, PreferenceExample):
                made.changes |= unlisted(value)
            _explain(list(made) if not isinstance(made, (PreferenceExample, ScoredAnswer)) else [made], rules)
        except NotText as found:
            raise found.refusal() from None
        except Rejection as rejection:
            console.info(f"dropped: {rejection.reason}")


def _explain(made: list[PreferenceExample | Rejection | ScoredAnswer], rules: Rules) -> None:
    for pair in made:
        if isinstance(pair, Rejection):
            console.info(f"dropped: {pair.reason}")
        elif isinstance(pair, ScoredAnswer):
            _messages("prompt", pair.prompt)
            _messages(f"answer of score {pair.score:g}, to be paired", pair.answer)
        else:
            _pair(pair, rules)


def _pair(pair: PreferenceExample, rules: Rules) -> None:
    changes = pair.changes | clean(pair)
    for name, messages in (("prompt", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected)):
        _messages(name, messages)
    if changes:
        console.info(f"changed: {', '.join(change_names(changes))}")
    if rules.model is None:
        return
    encoder = encoder_of(rules.model)
    ids = encode_pair(encoder, pair.prompt, pair.chosen, pair.rejected)
    for name, tokens, scored in (
        ("prompt", ids.prompt, ids.prompt),
        ("chosen", ids.chosen_ids, ids.chosen),
        ("rejected", ids.rejected_ids, ids.rejected),
    ):
        _say(f"{name} rendered", encoder.decode(tokens))
        shown = " ".join(map(str, tokens[:FIRST_TOKENS]))
        of_them = f", {len(scored):,} of them scored" if len(scored) < len(tokens) else ""
        console.info(f"{name}: {len(tokens):,} tokens{of_them}: {shown}{' …' if len(tokens) > FIRST_TOKENS else ''}")
    limit = _limit(rules.config, ids.longest)
    console.info(f"longest sequence: {ids.longest:,} tokens{limit}")


def _limit(config: PrepareConfig, longest: int) -> str:
    if not isinstance(config.max_length, int):
        return ""
    return f", {'over' if longest > config.max_length else 'within'} --max-length {config.max_length:,}"


def _messages(name: str, messages: list[Message]) -> None:
    for message in messages:
        _say(f"{name} [{message['role']}]", message["content"])


def _say(name: str, text: str) -> None:
    text = redact(text, find_secrets(text))
    console.info(f"{name}: {visible(text[:LONGEST])}{' …' if len(text) > LONGEST else ''}")
