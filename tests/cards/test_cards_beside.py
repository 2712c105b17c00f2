"""What else changed, in an adapter's card: likelihood, answers, benchmarks."""

from __future__ import annotations

from typing import Any

from hubdpo.artefacts.manifests.benchmarks import Benchmark, Benchmarks, Metric
from hubdpo.artefacts.manifests.evaluation import Sample
from hubdpo.artefacts.manifests.health import AnswerHealth, Drawing, Health, Holds, LanguageChange, Lengths, Likelihood
from hubdpo.artefacts.manifests.intervals import Interval
from hubdpo.artefacts.manifests.sweep import Divergence
from tests.cards.made import adapter_card, findings_in, report
from tests.cards.test_cards_judged import judged


def around(value: float, width: float) -> Interval:
    return Interval(value=value, low=value - width, high=value + width)


def answers(**changes: Any) -> AnswerHealth:
    values: dict[str, Any] = {
        "prompts": 32, "not_asked": 2, "equal": 3,
        "drawing": Drawing(max_new_tokens=256, do_sample=True, temperature=0.7, top_p=0.8, top_k=20, min_p=0.0),
        "lengths": Lengths(
            base=around(120, 20), adapter=around(180.5, 25), base_median=100, adapter_median=170, rise=around(60.5, 9)
        ),
        "unended": Holds.of([False] * 32, [True] * 6 + [False] * 26),
        "refusals": Holds.of([True] + [False] * 31, [True] + [False] * 31),
        "other_language": Holds.of([False] * 20, [True] * 2 + [False] * 18),
        "language_changes": [LanguageChange(prompt="en", answer="de", times=2)], "refusal_list": 1,
    }  # fmt: skip
    return AnswerHealth(**values | changes)


def health(**changes: Any) -> Health:
    values: dict[str, Any] = {
        "weights": "bfloat16",
        "likelihood": Likelihood(
            pairs=957, tokens=42_000, base=around(2.0, 0.1), adapter=around(2.1, 0.1), rise=around(0.1, 0.05)
        ),
        "divergence": Divergence(value=0.0123, tokens=1_400, pairs=16, interval=around(0.0123, 0.002)),
        "answers": answers(),
    }
    return Health(**values | changes)


def plain(text: str) -> str:
    return " ".join(text.split())


def test_the_card_says_what_else_changed() -> None:
    text = adapter_card(evaluation=report(health=health()))
    assert findings_in(text) == []
    card = plain(text)
    # e^2, and e^0.1 with its bounds
    assert "| perplexity of the preferred answers, 42,000 tokens | 7.39 (6.69–8.17) | 8.17 (7.39–9.03) |" in card
    assert "| × 1.105 (1.051 to 1.162) |" in card
    assert "| 120.0 (100.0–140.0) | 180.5 (155.5–205.5) | +60.5 (+51.5 to +69.5) |" in card
    assert (
        "| answers that had not ended after 256 tokens | 0.0 % (0.0–10.7) | 18.8 % (8.9–35.3) | +18.8 pt (p =" in card
    )
    assert "| answers in another language than the prompt, of 20 prompts | 0.0 % (0.0–16.1) | 10.0 %" in card
    assert "from the base is 0.0123 (0.0103–0.0143) nats a token, over 1,400 tokens of the answers of 16 pairs" in card
    assert "Both answered 32 prompts with the base's own settings (temperature 0.7, top-p 0.8, top-k 20)" in card
    assert "and the same random numbers; to 3 of them they gave the same answer." in card
    assert "2 further prompts could not be asked" in card
    assert "Languages of prompts and of the adapter's answers that differ: en → de (2)." in card
    assert card.index("## Results") < card.index("## What else changed") < card.index("## Training")


def test_what_was_not_measured_is_left_out() -> None:
    card = plain(adapter_card(evaluation=report(health=health(answers=None))))
    assert "perplexity of the preferred answers" in card
    assert "Both answered" not in card
    assert "Refusals" not in card
    assert "## What else changed" not in adapter_card(evaluation=report())
    told = plain(adapter_card(evaluation=report(health=health(answers=answers(other_language=None)))))
    assert "another language" not in told


def test_a_perplexity_of_many_digits_is_called_so() -> None:
    wild = health().likelihood.model_copy(update={"adapter": around(800, 3), "rise": around(798, 3)})  # type: ignore[union-attr]
    assert "| 7.39 (6.69–8.17) | above 9e+06 | – |" in plain(
        adapter_card(evaluation=report(health=health(likelihood=wild)))
    )


def test_greedy_answers_are_called_so() -> None:
    drawing = Drawing(max_new_tokens=64, do_sample=False)
    card = plain(adapter_card(evaluation=report(health=health(answers=answers(drawing=drawing)))))
    assert "Both answered 32 prompts greedily, as the base's generation config says; to 3 of" in card


def test_benchmarks_stand_beside_those_of_the_base() -> None:
    metrics = [
        Metric(
            name="acc", base=0.5, base_stderr=0.01, adapter=0.52, adapter_stderr=0.01, rise=around(0.02, 0.015),
            higher_is_better=True,
        ),
        Metric(name="word_perplexity", filter="strict", base=12.0, adapter=12.5, higher_is_better=False),
    ]  # fmt: skip
    tasks = [
        Benchmark(name="hella|swag", version="1.0", shots=5, examples=10_042, metrics=metrics[:1]),
        Benchmark(name="own", sha256="a" * 64, metrics=metrics[1:]),
    ]
    found = Benchmarks(harness="0.4.13", weights="bfloat16", limit=100, tasks=tasks)
    text = adapter_card(evaluation=report(benchmarks=found))
    assert findings_in(text) == []
    card = plain(text)
    assert (
        "Measured with lm-evaluation-harness 0.4.13, without the chat template, with the base model in bfloat16" in card
    )
    assert ", on the first 100 examples of each task." in card
    assert "v1.0, 5 shots | 10,042 | acc | 0.5000 ± 0.0100 | 0.5200 ± 0.0100 | +0.0200 (+0.0050 to +0.0350) |" in card
    assert "| `own` | – | word_perplexity (strict), lower is better | 12.0000 | 12.5000 | +0.5000 |" in card
    assert "Tasks of the publisher's own, which are no public benchmarks: `own` (SHA-256 `aaaaaaaaaaaa`)." in card
    assert "What these tasks do not test, such as safety, is unknown." in card
    assert "No public benchmark" not in card


def test_without_benchmarks_the_card_says_so() -> None:
    assert "No public benchmark was run, so effects on knowledge" in plain(adapter_card(evaluation=report()))
    assert "No public benchmark" not in adapter_card()


def test_a_card_has_one_empty_line_between_its_parts_and_all_of_those_in_samples() -> None:
    sample = Sample(prompt="p", base="a\n\n\n\nb", adapter="```\n\n\n\nc")
    card = adapter_card(evaluation=report(health=health(), judged=judged(), samples=[sample]))
    prose, *parts = card.split("````text")
    assert len(parts) == 1
    sample_text, after = parts[0].split("````\n")
    assert "a\n\n\n\nb" in sample_text and "```\n\n\n\nc" in sample_text
    assert "\n\n\n" not in f"{prose}text{after}"


def test_random_numbers_are_of_answers_that_are_drawn() -> None:
    greedy = answers(drawing=Drawing(max_new_tokens=256, do_sample=False))
    card = plain(adapter_card(evaluation=report(health=health(answers=greedy))))
    assert "greedily, as the base's generation config says; to 3" in card and "random numbers" not in card


def test_a_judge_of_answers_that_were_cut_is_qualified() -> None:
    words = "0.0 % of the base model's answers and 18.8 % of the adapter's were cut at 256 tokens"
    assert words in plain(adapter_card(evaluation=report(health=health(), judged=judged())))
    ended = answers(unended=Holds.of([False] * 32, [False] * 32))
    card = plain(adapter_card(evaluation=report(health=health(answers=ended), judged=judged())))
    assert "were cut at" not in card
