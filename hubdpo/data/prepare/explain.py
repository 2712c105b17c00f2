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
from hubdpo.data.pairs.example import NotText, PreferenceExample, Rejection, Row, ScoredAnswer, change_names
from hubdpo.data.pairs.extras import EXTRA
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.raw.pieces import Piece, PieceReader
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
            console.show(f"══ {own[0].file.name}, `{converter}`")
        readers = (PieceReader(piece, max_line_bytes=config.max_line_bytes) for piece in own)
        for row in itertools.islice(itertools.chain.from_iterable(readers), config.explain):
            console.show(f"── {own[0].file.place} {row.line}")
            if row.value is None:
                console.show(f"dropped: {row.problem}{row.detail and f', {row.detail}'}")
            else:
                _explain(row.value, rule)


def _explain(row: Row, rules: Rules) -> None:
    """Show what becomes of a row. Credentials are hidden."""
    _show("raw", orjson.dumps(row, default=str).decode())
    try:
        row = rules.screen.one(row)
        converted = rules.convert(row)
        items: Iterable[PreferenceExample | Rejection | ScoredAnswer] = (
            [converted] if isinstance(converted, (PreferenceExample, ScoredAnswer)) else converted
        )
        for item in items:
            if isinstance(item, Rejection):
                console.show(f"dropped: {item.reason}")
                continue
            item.changes |= unlisted(row)
            if isinstance(item, ScoredAnswer):
                _show_messages("prompt", item.prompt)
                _show_messages(f"answer of score {item.score:g}, to be paired", item.answer)
            else:
                _explain_pair(item, rules)
    except NotText as problem:
        raise problem.refusal() from None
    except Rejection as rejection:
        console.show(f"dropped: {rejection.reason}")


def _explain_pair(pair: PreferenceExample, rules: Rules) -> None:
    changes = pair.changes | clean(pair)
    if pair.tools:
        _show("tools", pair.tools)
    for name, messages in (("prompt", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected)):
        _show_messages(name, messages)
    if changes:
        console.show(f"changed: {', '.join(change_names(changes))}")
    if rules.model is None:
        return
    encoder = encoder_of(rules.model)
    ids = encode_pair(encoder, pair)
    for name, tokens, scored in (
        ("prompt", ids.prompt, ids.prompt),
        ("chosen", ids.chosen.ids, ids.chosen.scored),
        ("rejected", ids.rejected.ids, ids.rejected.scored),
    ):
        _show(f"{name} rendered", encoder.decode(tokens))
        first = " ".join(map(str, tokens[:FIRST_TOKENS]))
        count = f", {len(scored):,} of them scored" if len(scored) < len(tokens) else ""
        console.show(f"{name}: {len(tokens):,} tokens{count}: {first}{' …' if len(tokens) > FIRST_TOKENS else ''}")
    limit, most = "", rules.config.max_length
    if isinstance(most, int):
        limit = f", {'over' if ids.longest > most else 'within'} --max-length {most:,}"
    console.show(f"longest sequence: {ids.longest:,} tokens{limit}")


def _show_messages(name: str, messages: list[Message]) -> None:
    for message in messages:
        _show(f"{name} [{message['role']}]", " ".join(filter(None, (message["content"], message.get(EXTRA)))))


def _show(name: str, text: str) -> None:
    text = redact(text, find_secrets(text)) if text.strip() else "(empty)"
    console.show(f"{name}: {visible(text[:LONGEST])}{' …' if len(text) > LONGEST else ''}")
