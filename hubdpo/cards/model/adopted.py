"""What the card of an adopted adapter says of its training: what is known, and what is not."""

from __future__ import annotations

from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.fences import one_line
from hubdpo.cards.model.citations import method_of
from hubdpo.cards.model.rounds import UNKNOWN, data_words

Row = tuple[str, str]
SETTINGS = {
    "beta": "β", "learning_rate": "learning rate", "lr_scheduler_type": "schedule", "warmup_ratio": "warm-up, share",
    "warmup_steps": "warm-up, steps", "num_train_epochs": "epochs", "optim": "optimiser",
    "max_length": "maximum tokens of a pair", "chat_template_kwargs": "variables of the chat template",
}  # fmt: skip
"""Options with their labels."""
NEEDED = SETTINGS.keys() - {"warmup_ratio", "warmup_steps", "chat_template_kwargs"}
"""Those that have a row also where they are not known."""
IN_4BIT = {True: "NF4", False: "none", None: UNKNOWN}


def facts_of(run: RunManifest) -> list[Row]:
    """Return (setting, value) of the training of an adopted adapter."""
    if run.adopted is None:
        raise ValueError("the run is hubdpo's own")
    adopted, known, source = run.adopted, run.config, run.adopted.source
    at = f" at `{source.revision}`" if source.revision else ", a local folder"
    named = adopted.named_base and f"`{one_line(adopted.named_base)}`"
    if named and adopted.named_revision != run.base.revision:
        named += f" at `{one_line(adopted.named_revision)}`" if adopted.named_revision else ", without a commit"
    is_same = (adopted.named_base, adopted.named_revision) == (run.base.repo_id, run.base.revision)
    return [
        ("trained by", adopted.words),
        ("adopted from", f"`{one_line(source.name)}`{at}, weights SHA-256 `{source.sha256}`"),
        *([("base model by its own files", named)] if named and not is_same else []),
        ("data", data_words(run.dataset) + (", as its publisher says" if run.dataset is not None else "")),
        *([("data by its own files", ", ".join(f"`{one_line(name)}`" for name in adopted.named_data))]
          if adopted.named_data else []),
        ("quantisation of the base model", IN_4BIT[run.in_4bit]),
        ("method", method_of(run) or UNKNOWN),
        ("loss", one_line(" + ".join(run.losses)) or UNKNOWN),
        *((label, _value(known.get(name))) for name, label in SETTINGS.items() if name in {*known, *NEEDED}),
        ("pairs of a step", f"{run.pairs_per_step:,}" if run.pairs_per_step is not None else UNKNOWN),
        ("steps", f"{run.steps:,}" if run.steps is not None else UNKNOWN),
        ("training time", f"{run.train_seconds:,.0f} s" if run.train_seconds is not None else UNKNOWN),
        ("seed", _value(run.seed)),
        ("software", ", ".join(f"{one_line(name)} {one_line(at)}" for name, at in run.versions.items()) or UNKNOWN),
        ("hardware", _value(run.device)),
    ]  # fmt: skip


def commit_words(run: RunManifest) -> str:
    """Say which commit of the base a release names. Only for an own run, or as its files say, is it the training's."""
    adopted = run.adopted
    if adopted is None or (adopted.named_base, adopted.named_revision) == (run.base.repo_id, run.base.revision):
        return "that the adapter was trained on"
    named = f"name `{one_line(adopted.named_revision)}`" if adopted.named_revision else "name none"
    return f"with which the adapter was adopted; its own files {named}"


def known_and_unknown(run: RunManifest) -> tuple[list[str], list[str]]:
    """Return what is known of the training of an adopted adapter, with its values, and the names of what is not."""
    facts = {name: value.replace("`", "") for name, value in facts_of(run) if name != "adopted from"}
    known = [f"{name}: {value}" for name, value in facts.items() if UNKNOWN not in value]
    return known, [name for name, value in facts.items() if UNKNOWN in value]


def _value(value: object) -> str:
    return UNKNOWN if value is None else f"`{one_line(str(value))}`"
