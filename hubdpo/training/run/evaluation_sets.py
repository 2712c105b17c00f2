"""Further datasets that are evaluated during training: load them, and count what the train split shares with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hubdpo import console
from hubdpo.artefacts.manifests.run import EvaluationSet
from hubdpo.config import TrainConfig
from hubdpo.data.load import load_with_reference
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.errors import ConfigError
from hubdpo.training.pair_values import set_values
from hubdpo.training.step.batch import Row

COMPARED = ("prompt", "chosen", "rejected")


def load_sets(
    config: TrainConfig, train: Dataset, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, list[Row]], dict[str, EvaluationSet]]:
    """Return the tokenised rows of each `--eval-dataset`, and what the manifest says of it.

    Its test split is taken, or its train split where it has no other. Raise ConfigError if no pair of it is left.
    """
    rows: dict[str, list[Row]] = {}
    facts: dict[str, EvaluationSet] = {}
    trained = _pairs(train) if config.eval_dataset else set()
    for name, place in config.evaluation_sets.items():
        data, ref = load_with_reference(place, trains=False)
        split = "test" if "test" in data else "train"
        pairs = data[split].select(range(min(len(data[split]), config.max_eval_pairs)))
        encoder = PairTokenizer(tokenizer, max_length=config.max_length, prompt_budget=config.prompt_budget)
        rows[name] = encoder.rows(pairs, config.value_columns)
        set_values(rows[name], config, f"{name} {split}")
        if not rows[name]:
            raise ConfigError(f"no pair of `{place}` is left: {'; '.join(encoder.dropped())}", hint=encoder.hint())
        shared = len(trained & _pairs(pairs))
        facts[name] = EvaluationSet(dataset=ref, split=split, pairs=len(rows[name]), in_train=shared)
        console.info(f"evaluates {name}: {console.counted(len(rows[name]), 'pair')} of {ref.name}, split `{split}`")
        for sentence in encoder.remarks():
            console.warn(f"{name}: {sentence}")
        if shared:
            count = console.counted(shared, "pair")
            console.warn(f"{count} of `{name}` in the train split too: what is measured on them is not held out")
    return rows, facts


def _pairs(data: Dataset) -> set[str]:
    """Return a hash of each pair, as its messages or texts say."""
    return {_hash({name: row[name] for name in COMPARED}) for row in data.select_columns(list(COMPARED))}


def _hash(pair: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(pair, sort_keys=True).encode()).hexdigest()
