"""The results in an adapter's card: on which weights, on which data, beside which adapter."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import ModelCard

from hubdpo.artefacts.manifests.evaluation import EvaluatedDataset, FurtherDataset, OtherScores, Ranking
from hubdpo.artefacts.manifests.intervals import Accuracy, Interval
from hubdpo.artefacts.manifests.run import AdapterRef
from tests.cards.made import SHA, adapter_card, findings_in, report, run_manifest


def ranking(right: int, **changes: object) -> Ranking:
    """How models rank 100 pairs, of which the adapter ranks so many correctly."""
    values = report().model_dump(exclude={"samples", "split", "schema_version", "dataset", "original", "further"})
    values |= {"pairs": 100, "adapter_accuracy": Accuracy.of(right, 100), "weights": "bfloat16"}
    return Ranking.model_validate(values | changes)


def plain(text: str) -> str:
    return " ".join(text.split())


def test_the_card_begins_with_what_its_code_loads() -> None:
    card = plain(adapter_card(evaluation=report(weights="NF4, computed in bfloat16", original=ranking(61))))
    assert "**61.0 %** of 100 held-out pairs" in card
    assert "on the original weights, which the code below loads" in card
    assert card.index("**Original weights of the base (bfloat16), as the code above loads them**") < card.index(
        "<summary>Base quantised as in training (NF4, computed in bfloat16)</summary>"
    )
    assert "on which neither model was measured" not in card


@pytest.mark.parametrize("weights", [None, "NF4, computed in bfloat16"])
def test_weights_that_were_not_measured_are_said(weights: str | None) -> None:
    card = plain(adapter_card(evaluation=report(weights=weights)))
    assert "(on the base as training had it)" in card
    assert "The code above loads the original weights of the base, on which neither model was measured" in card


@pytest.mark.parametrize(
    ("in_4bit", "weights"), [(True, "bfloat16"), (False, "bfloat16"), (False, None)], ids=lambda each: str(each)
)
def test_nothing_is_missing_where_the_original_weights_were_measured(in_4bit: bool, weights: str | None) -> None:
    run = run_manifest(config={"load_in_4bit": in_4bit})
    card = plain(adapter_card(run, report(weights=weights)))
    assert "neither model was measured" not in card
    assert "**Original weights of the base" in card
    assert ("and as in training**" in card) == (not in_4bit)


def test_differences_have_their_intervals() -> None:
    gains = {"accuracy_gain": Interval(value=0.093, low=0.061, high=0.125)}
    gains["margin_gain"] = Interval(value=0.11, low=0.08, high=0.14)
    card = adapter_card(evaluation=report(**gains))
    assert "| +9.3 pt (+6.1 to +12.5) |" in card
    assert "| +0.1100 (+0.0800 to +0.1400) |" in card


def test_further_datasets_are_rows_of_a_table_and_of_the_model_index() -> None:
    code = EvaluatedDataset(
        name="acme/code", repo_id="acme/code", revision=SHA, fingerprint="e" * 64, split="train", in_train=0
    )
    mine = EvaluatedDataset(name="my | pairs", fingerprint="d" * 64, in_train=3)
    further = [
        FurtherDataset(dataset=code, as_trained=ranking(55, weights="NF4"), original=ranking(57)),
        FurtherDataset(dataset=mine, as_trained=ranking(40)),
    ]
    card = adapter_card(evaluation=report(further=further))
    rows = re.findall(r"^\| `.*(?:NF4|bfloat16) \|.*$", card, re.MULTILINE)
    assert [row.split(" | ")[0] for row in rows] == [
        *[f"| `acme/code` at `{SHA}`, split `train`"] * 2,
        "| `my pairs`, split `test`, 3 of which were in the training data",
    ]
    assert not findings_in(card)
    results = ModelCard(card).data.eval_results
    assert [(each.dataset_name, each.dataset_split) for each in results] == [
        ("acme/prefs", "test"), ("acme/prefs", "test"),
        *[("acme/code", "train")] * 3, *[("my pairs", "test")] * 2,
    ]  # fmt: skip
    assert results[4].metric_name.endswith("base not quantised")


def test_pairs_of_other_data_than_the_trainings_are_not_called_held_out() -> None:
    other = EvaluatedDataset(name="acme/code", repo_id="acme/code", revision=SHA, fingerprint="e" * 64)
    card = plain(adapter_card(evaluation=report(dataset=other)))
    assert f"Measured on 957 pairs of the split `test` of `acme/code` at `{SHA}`" in card
    assert "shares no prompt" not in card
    own = EvaluatedDataset(name="acme/prefs", fingerprint="f" * 64)
    assert "which shares no prompt" in plain(adapter_card(evaluation=report(dataset=own)))


def test_another_adapter_stands_beside() -> None:
    gain = Interval(value=0.05, low=-0.01, high=0.11)
    other = OtherScores(
        accuracy=Accuracy.of(600, 957), margin=gain, accuracy_gain=gain, margin_gain=gain, only_adapter_right=90,
        only_other_right=42, mcnemar_p=0.03,
    )  # fmt: skip
    ref = AdapterRef(name="acme/sft", repo_id="acme/sft", revision=SHA, version="v2.0.0", sha256="a" * 64)
    card = plain(adapter_card(evaluation=report(other=other, against=ref)))
    assert "The adapter `acme/sft` v2.0.0 ranks 62.7 % (59.6–65.7) of the pairs correctly" in card
    assert "differs from it by +5.0 pt (-1.0 to +11.0)" in card
    assert "alone ranks 90 pairs correctly, that one alone 42 pairs (p = 0.03)" in card
