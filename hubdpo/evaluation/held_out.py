"""The pairs that an evaluation scores: of each dataset the test split, tokenised as in the training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.manifests.evaluation import EvaluatedDataset
from hubdpo.config import EvaluateConfig
from hubdpo.data.encoded.encoded import EncodedSplit, encoded
from hubdpo.data.encoded.encoding import Encoding
from hubdpo.data.load import Split, look_at_dataset, open_dataset
from hubdpo.errors import ArtefactError
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

    A dataset with a train split alone is scored too, if it is not the one of the training. Raise ArtefactError when
    nothing of it was held out.
    """
    manifest, pinned = look_at_dataset(name, trains=False)
    if manifest.splits.get("test"):
        return Found(pinned, "test")
    source = subject.run or subject.merge
    data = source.dataset if source is not None else None
    trained_on = data.fingerprint if data is not None else None
    if not manifest.splits.get("train") or manifest.fingerprint == trained_on:
        raise ArtefactError("the dataset has no test split", hint="hubdpo prepare SOURCE -o DIR --test-size 0.05")
    console.info(
        f"{name} has no test split; its train split is scored, which the training of another dataset did not see"
    )
    return Found(pinned, "train")


def read(config: EvaluateConfig, subject: Subject, tokenizer: Path, found: list[Found]) -> list[HeldOut]:
    """Read and tokenise the pairs of each dataset, as the training did, with the tokenizer of a folder."""
    run = subject.run
    limit = config.max_length or (run.max_length if run is not None else None) or MAX_LENGTH
    budget = (run.max_prompt_length if run is not None else None) or limit // 2
    encoding = Encoding.of(
        tokenizer, template=None, template_kwargs=subject.template_kwargs, max_length=limit, prompt_budget=budget
    )
    sets = []
    for name, part in found:
        splits, ref = open_dataset(name, trains=False)
        dataset = EvaluatedDataset(
            name=ref.name, repo_id=ref.repo_id, revision=ref.revision, fingerprint=ref.fingerprint, split=part
        )
        if splits[part].pairs > config.max_pairs:
            console.info(f"the first {config.max_pairs:,} of {splits[part].pairs:,} pairs of {ref.name} are scored")
        sets.append(HeldOut(dataset, splits[part], encoded(splits[part], encoding, limit=config.max_pairs)))
    return sets
