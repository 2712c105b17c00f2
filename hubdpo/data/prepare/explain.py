"""`--explain N`: show rows as they are read, as messages, rendered by the chat template, and in tokens."""

from __future__ import annotations

import itertools
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
from hubdpo.data.raw.pieces import Piece, PieceReader
from hubdpo.data.raw.rows import RawRow
from hubdpo.data.tokens.pair import encode_pair
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.secrets import find_secrets, redact

LONGEST = 600
FIRST_TOKENS = 24


def explain_files(config: PrepareConfig, pieces: list[Piece], rules: list[Rules]) -> None:
    """Explain the first rows of the first file of each format."""
    firsts: dict[str, tuple[int, Rules]] = {}
    for piece, rule in zip(pieces, rules, strict=True):
        firsts.setdefault(rule.converter, (piece.file.number, rule))
    for converter, (number, rule) in firsts.items():
        own = [piece for piece in pieces if piece.file.number == number]
        if len(firsts) > 1:
            console.info(f"══ {own[0].file.name}, `{converter}`")
        readers = (PieceReader(piece, max_line_bytes=config.max_line_bytes) for piece in own)
        explain(itertools.islice(itertools.chain.from_iterable(readers), config.explain), rule, own[0].file.place)


def explain(rows: Iterable[RawRow], rules: Rules, place: str) -> None:
    """Show what becomes of each row. Credentials are hidden."""
    for row in rows:
        console.info(f"── {place} {row.line}")
        if row.value is None:
            console.info(f"dropped: {row.problem}{row.detail and f', {row.detail}'}")
            continue
        _say("raw", orjson.dumps(row.value, default=str).decode())
        try:
            value = rules.screen.one(row.value)
            converted = rules.convert(value)
            if isinstance(converted, (PreferenceExample, ScoredAnswer)):
                converted.changes |= unlisted(value)
                _explain(converted, rules)
            else:
                for pair in converted:
                    _explain(pair, rules)
        except NotText as problem:
            raise problem.refusal() from None
        except Rejection as rejection:
            console.info(f"dropped: {rejection.reason}")


def _explain(converted: PreferenceExample | Rejection | ScoredAnswer, rules: Rules) -> None:
    if isinstance(converted, Rejection):
        console.info(f"dropped: {converted.reason}")
    elif isinstance(converted, ScoredAnswer):
        _messages("prompt", converted.prompt)
        _messages(f"answer of score {converted.score:g}, to be paired", converted.answer)
    else:
        _pair(converted, rules)


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
        ("chosen", ids.chosen.ids, ids.chosen.scored),
        ("rejected", ids.rejected.ids, ids.rejected.scored),
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
    text = redact(text, find_secrets(text)) if text.strip() else "(empty)"
    console.info(f"{name}: {visible(text[:LONGEST])}{' …' if len(text) > LONGEST else ''}")
