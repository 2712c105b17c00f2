"""Memory and speed in a model card: worked out from the manifest, or measured, or not there."""

from __future__ import annotations

import pytest

from hubdpo.artefacts.manifests.base_memory import BaseMemory
from hubdpo.artefacts.manifests.health import Speed
from tests.cards.made import adapter_card, findings_in, report, run_manifest
from tests.cards.test_cards_beside import answers, health, plain

QWEN2_7B = BaseMemory(linear_values=6_525_288_448, other_values=1_090_328_064, cache_values=28_672)
SPEED = Speed(tokens=1_234, seconds=20.0, at_once=8, device="NVIDIA L4 | <b>")


def card_of(memory: BaseMemory | None, *, in_4bit: bool = True, speed: Speed | None = None) -> str:
    run = run_manifest(config={"load_in_4bit": in_4bit}, base={"memory": memory})
    return adapter_card(run, report(health=health(answers=answers(speed=speed))))


def test_the_card_says_what_memory_a_server_needs() -> None:
    text = card_of(QWEN2_7B)
    assert findings_in(text) == []
    assert "| | 16 bits | NF4, as in training |\n|---|---:|---:|\n" in text
    assert "| weights of the base model | 15.2 GB | 5.5 GB |" in text
    assert "| weights of the adapter | 4.1 kB | 4.1 kB |" in text
    assert "| cache for each 1,000 tokens of a conversation | 57.3 MB | 57.3 MB |" in text
    assert "28,672 keys and values for a token" in text
    assert "NF4 takes 4.127 bits" in text


def test_a_run_on_16_bits_has_no_column_of_nf4() -> None:
    text = card_of(QWEN2_7B, in_4bit=False)
    assert "| | 16 bits |\n|---|---:|\n| weights of the base model | 15.2 GB |\n" in text
    assert "NF4 takes" not in text


def test_a_cache_that_is_not_known_is_called_so() -> None:
    text = card_of(QWEN2_7B.model_copy(update={"cache_values": None}))
    assert "| cache for each 1,000 tokens of a conversation | not known | not known |" in text
    assert "keys and values for a token" not in text


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert "## Memory and speed" not in card_of(None)


@pytest.mark.parametrize("memory", [QWEN2_7B, None], ids=["with memory", "alone"])
def test_a_speed_is_told_with_the_hardware_that_it_was_measured_on(memory: BaseMemory | None) -> None:
    text = card_of(memory, speed=SPEED)
    assert findings_in(text) == []
    card = plain(text)
    assert "61.7 tokens a second, 8 answers at a time, with the base model in bfloat16" in card
    assert "NVIDIA L4" in card.split("## Memory and speed")[1].split("## Training")[0]
    assert "<b>" not in card


def test_no_speed_is_told_that_was_not_measured() -> None:
    assert "tokens a second" not in plain(card_of(QWEN2_7B))
