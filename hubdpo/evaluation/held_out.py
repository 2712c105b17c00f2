"""The pairs that an evaluation scores: of each dataset the test split, tokenised as in the training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.manifests.evaluation import EvaluatedDataset
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import EvaluateConfig
from hubdpo.data.encoded.encoded import EncodedSplit, encoded
from hubdpo.data.encoded.encoding import Encoding
from hubdpo.data.load import Split, look_at_dataset, open_dataset
from hubdpo.errors import ArtefactError, ConfigError, HubError
from hubdpo.evaluation.subject import Subject

MAX_LENGTH = 1024
"""Tokens of a pair, where no training says otherwise."""


class Found(NamedTuple):
    """A dataset that was looked at and not read yet: its name with the commit, and the split to score."""

    name: str
    split: str


class HeldOut(NamedTuple):
    """The pairs of a dataset, as rows and as tokens."""

    dataset: EvaluatedDataset
    split: Split
    test: EncodedSplit


def look_at(name: str, subject: Subject) -> Found:
    """Find a dataset and the split of it that was held out, without reading it.

    A dataset with a train split alone is scored too; ArtefactError if it is the one of the training.
    """
    manifest, pinned = look_at_dataset(name, trains=False)
    if manifest.splits.get("test"):
        return Found(pinned, "test")
    data = subject.training_data
    trained_on = data.fingerprint if data is not None else None
    if not manifest.splits.get("train") or manifest.fingerprint == trained_on:
        raise ArtefactError(f"`{name}` has no test split", hint="hubdpo prepare SOURCE -o DIR --test-size 0.05")
    console.info(f"{name} has no test split; its train split is scored")
    return Found(pinned, "train")


def read(config: EvaluateConfig, subject: Subject, tokenizer: Path, found: list[Found]) -> list[HeldOut]:
    """Tokenise the pairs of each dataset as the training did, with the tokenizer of a folder."""
    limit, budget = limits(config, subject.run)
    encoding = Encoding.of(
        tokenizer, template=None, template_kwargs=subject.template_kwargs, max_length=limit, prompt_budget=budget
    )
    data, sets = subject.training_data, []
    named: Counter[str] = Counter()
    for name, part in found:
        splits, ref = open_dataset(name, trains=False)
        named[ref.name] += 1
        is_own = data is not None and ref.fingerprint == data.fingerprint
        dataset = EvaluatedDataset(
            name=f"{ref.name} ({named[ref.name]})" if named[ref.name] > 1 else ref.name, repo_id=ref.repo_id,
            revision=ref.revision, fingerprint=ref.fingerprint, split=part,
            in_train=0 if is_own and part == "test" else None,
        )  # fmt: skip
        if splits[part].pairs > config.max_pairs:
            console.info(f"the first {config.max_pairs:,} of {splits[part].pairs:,} pairs of {ref.name} are scored")
        sets.append(HeldOut(dataset, splits[part], encoded(splits[part], encoding, limit=config.max_pairs)))
    return _with_seen(config, subject, sets)


def limits(config: EvaluateConfig, run: RunManifest | None) -> tuple[int, int]:
    """Return the maximum tokens of a pair and of a prompt that is cut: those of the training, where it is known.

    Prompts get half of a `--max-length` that the training's own budget for them would fill.
    """
    limit = config.max_length or (run.max_length if run is not None else None) or MAX_LENGTH
    budget = (run.max_prompt_length if run is not None else None) or limit // 2
    if budget < limit:
        return limit, budget
    left = limit // 2
    console.warn(
        f"long prompts are cut to {console.counted(left, 'token')} and not, as in the training, to {budget:,}, which "
        f"would leave none of the {limit:,} for the answers"
    )
    return limit, left


def _with_seen(config: EvaluateConfig, subject: Subject, sets: list[HeldOut]) -> list[HeldOut]:
    """Count the pairs of each dataset that the training data have as well, where those can be had, and tell of them."""
    others = [held_out for held_out in sets if held_out.dataset.in_train is None]
    if not others:
        return sets
    train = _train_split(subject)
    if train is None:
        names = console.listed([f"`{held_out.dataset.name}`" for held_out in others])
        console.warn(f"it is not known whether the training saw the pairs of {names}")
        return sets
    counts = iter(train.count_in([held_out.split for held_out in others], config.max_pairs))
    found = []
    for held_out in sets:
        data = held_out.dataset
        if data.in_train is None:
            count = next(counts)
            data = data.model_copy(update={"in_train": count})
            if count:
                console.warn(
                    f"{console.counted(count, 'pair')} of `{data.name}` were in the training data, so what is measured "
                    "on them is not held out"
                )
        found.append(held_out._replace(dataset=data))
    return found


def _train_split(subject: Subject) -> Split | None:
    """Return the train split of the training data, None where they are not known or cannot be had any more."""
    data = subject.training_data
    if data is None or subject.trained_on is None:
        return None
    try:
        splits, ref = open_dataset(subject.trained_on)
    except (ArtefactError, ConfigError, HubError):
        return None
    return splits["train"] if ref.fingerprint == data.fingerprint else None
