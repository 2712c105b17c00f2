"""Further datasets that are evaluated during training: load them, and count what the train split shares with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hubdpo import console
from hubdpo.artefacts.manifests.run import DatasetRef, EvaluationSet
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.encoded import encoded
from hubdpo.data.encoded.encoding import Encoding
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.load import Split, open_dataset
from hubdpo.data.tokens.tokenize import Account
from hubdpo.errors import ConfigError
from hubdpo.training.pair_values import with_values


@dataclass
class _Set:
    ref: DatasetRef
    split: Split
    pairs: frozenset[bytes]
    rows: TokenRows
    account: Account
    in_train: set[bytes] = field(default_factory=set)


def load_sets(
    config: TrainConfig, train: Split, encoding: Encoding
) -> tuple[dict[str, TokenRows], dict[str, EvaluationSet]]:
    """Return the tokenised rows of each `--eval-dataset`, and what the manifest says of it.

    Its test split is taken, or its train split where it has no other. Raise ConfigError if no pair of it is left.
    """
    sets = {name: _load(config, name, place, encoding) for name, place in config.evaluation_sets.items()}
    if sets:
        for pair in train.hashes():
            for each in sets.values():
                if pair in each.pairs:
                    each.in_train.add(pair)
    for name, each in sets.items():
        count = console.counted(len(each.rows), "pair")
        console.info(f"evaluates {name}: {count} of {each.ref.name}, split `{each.split.name}`")
        for sentence in each.account.remarks():
            console.warn(f"{name}: {sentence}")
        if each.in_train:
            count = console.counted(len(each.in_train), "pair")
            console.warn(f"{count} of `{name}` in the train split too: what is measured on them is not held out")
    facts = {
        name: EvaluationSet(
            dataset=each.ref, split=each.split.name, pairs=len(each.rows), in_train=len(each.in_train)
        )
        for name, each in sets.items()
    }  # fmt: skip
    return {name: each.rows for name, each in sets.items()}, facts


def _load(config: TrainConfig, name: str, place: str, encoding: Encoding) -> _Set:
    splits, ref = open_dataset(place, trains=False)
    split = splits["test" if "test" in splits else "train"]
    found = encoded(split, encoding, limit=config.max_eval_pairs, num_proc=config.dataset_num_proc)
    rows, account = with_values(found.rows, split, config, f"{name} {split.name}"), found.account
    if not len(rows):
        raise ConfigError(f"no pair of `{place}` is left: {'; '.join(account.dropped())}", hint=account.hint())
    return _Set(ref, split, frozenset(split.hashes(config.max_eval_pairs)), rows, account)
