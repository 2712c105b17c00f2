"""The tokenised pairs of a run: what it trains on, what it evaluates on, and what became of all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from hubdpo import console
from hubdpo.artefacts.manifests.run import EvaluationSet
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.encoded import EncodedSplit, encoded
from hubdpo.data.encoded.encoding import Encoding
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.load import Split, open_dataset
from hubdpo.data.tokens.tokenize import Account
from hubdpo.errors import ConfigError
from hubdpo.model.bases.find import Base
from hubdpo.model.tokenizer.load import read_tokenizer
from hubdpo.model.tokenizer.own_template import place_of_own, remarks_on
from hubdpo.training.pair_values import with_values


@dataclass(frozen=True)
class Pairs:
    """Pairs of the train split with its account, of the test split, of what is evaluated of it, and of further sets."""

    tokenizer: PreTrainedTokenizerBase
    account: Account
    train: TokenRows
    test: EncodedSplit | None
    evaluated: TokenRows
    sets: dict[str, TokenRows]
    facts: dict[str, EvaluationSet]


def tokenised(config: TrainConfig, base: Base, splits: Mapping[str, Split]) -> Pairs:
    """Tokenise the pairs that the run trains and evaluates on. Raise ConfigError if none is left to train on."""
    tokenizer = read_tokenizer(base.folder, config.chat_template_kwargs, template=config.chat_template)
    encoding = Encoding.of(
        base.folder, template=config.chat_template, template_kwargs=config.chat_template_kwargs,
        max_length=config.max_length, prompt_budget=config.prompt_budget,
    )  # fmt: skip
    if config.chat_template is not None:
        console.info(f"template  {config.chat_template}{place_of_own(base.folder)}")
    found = encoded(splits["train"], encoding, num_proc=config.dataset_num_proc)
    for remark in remarks_on(tokenizer, found.account.end_of_turn):
        console.warn(remark)
    if not len(found.rows):
        dropped = "; ".join(found.account.dropped())
        raise ConfigError(f"no pair is left to train on: {dropped}", hint=found.account.hint())
    train = with_values(found.rows, splits["train"], config, "train")
    test, evaluated = None, TokenRows.of([])
    if "test" in splits:
        test = encoded(splits["test"], encoding, num_proc=config.dataset_num_proc)
        first = test.rows[: int(np.searchsorted(test.rows.row_numbers, config.max_eval_pairs))]
        evaluated = with_values(first, splits["test"], config, "test")
        if config.max_eval_pairs < splits["test"].pairs:
            console.info(f"evaluates the first {config.max_eval_pairs:,} of {splits['test'].pairs:,} held-out pairs")
    return Pairs(tokenizer, found.account, train, test, evaluated, *_further_sets(config, splits["train"], encoding))


def _further_sets(
    config: TrainConfig, train: Split, encoding: Encoding
) -> tuple[dict[str, TokenRows], dict[str, EvaluationSet]]:
    """Return the tokenised test split, or else train split, of each `--eval-dataset`, and what run.json says of it."""
    sets: dict[str, TokenRows] = {}
    facts: dict[str, EvaluationSet] = {}
    opened = {name: open_dataset(place, trains=False) for name, place in config.evaluation_sets.items()}
    taken = {name: splits["test" if "test" in splits else "train"] for name, (splits, _) in opened.items()}
    counts = train.count_in([*taken.values()], config.max_eval_pairs)
    for (name, place), in_train in zip(config.evaluation_sets.items(), counts, strict=True):
        split, (_, ref) = taken[name], opened[name]
        found = encoded(split, encoding, limit=config.max_eval_pairs, num_proc=config.dataset_num_proc)
        sets[name] = rows = with_values(found.rows, split, config, f"{name} {split.name}")
        if not len(rows):
            raise ConfigError(
                f"no pair of `{place}` is left: {'; '.join(found.account.dropped())}", hint=found.account.hint()
            )
        console.info(f"evaluates {name}: {console.counted(len(rows), 'pair')} of {ref.name}, split `{split.name}`")
        for sentence in found.account.remarks():
            console.warn(f"{name}: {sentence}")
        if in_train:
            count = console.counted(in_train, "pair")
            console.warn(f"{count} of `{name}` in the train split too: what is measured on them is not held out")
        facts[name] = EvaluationSet(dataset=ref, split=split.name, pairs=len(rows), in_train=in_train)
    return sets, facts
