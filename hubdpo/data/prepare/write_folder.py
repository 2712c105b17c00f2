"""Write the files of a dataset folder: shards, plots, card and, last of all, the manifest."""

from __future__ import annotations

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.workspace import Workspace
from hubdpo.artefacts.formats.kept_sections import Card, Section, join_card
from hubdpo.artefacts.manifests.manifest import CARD_FILE, PREPARE_FILE, FileEntry, canonical_json
from hubdpo.artefacts.manifests.prepare import PrepareManifest, card_entry
from hubdpo.cards.dataset.card import render_dataset_card
from hubdpo.cards.dataset.plots import draw_dataset_plots
from hubdpo.cards.dataset.source_card import SourceCard
from hubdpo.cards.render import template
from hubdpo.data.language import named_languages, tell_languages, teller
from hubdpo.data.prepare.folder import UNFINISHED
from hubdpo.data.prepare.samples import choose_samples, draw_pairs
from hubdpo.data.prepare.shards import ShardTask, entry_of, write_shard
from hubdpo.data.prepare.workers import Engine


def write_folder(
    engine: Engine,
    space: Workspace,
    manifest: PrepareManifest,
    card: SourceCard,
    shards: dict[str, list[ShardTask]],
    sections: tuple[Section, ...],
) -> PrepareManifest:
    """Write the planned `shards` of each split and all else, and return the manifest with the entries of the files.

    `sections` are those that people wrote into the card of the folder that is replaced.
    """
    storage.make_folder(storage.join(space.new, "data"))
    tasks = [(split, task) for split, planned in shards.items() for task in planned]
    results = engine.map(write_shard, [task for _, task in tasks])
    # this needs no worker, so it is done while the shards are written
    plots = draw_dataset_plots(manifest)
    template("dataset.md")
    if not manifest.language:
        teller()
    for name, picture in plots.items():
        storage.make_folder(storage.join(space.new, "plots"))
        _write(space, name, picture)
    entries: dict[str, FileEntry] = {}
    split_bytes = dict.fromkeys(shards, 0)
    for (split, task), written in zip(tasks, results, strict=True):
        split_bytes[split] += written.in_memory
        entries[f"data/{task.path.rsplit('/', 1)[1]}"] = written.file
        storage.secure(task.path)
    entries |= {name: entry_of(storage.join(space.new, name)) for name in plots}
    first = tasks[0][0]
    drawn = draw_pairs([task.path for split, task in tasks if split == first], int(manifest.config.get("seed", 0)))
    told = None if manifest.language else tell_languages(drawn, first)
    samples, passed_over = choose_samples(drawn)
    manifest = manifest.model_copy(
        update={"files": entries, "told_languages": told, "language": manifest.language or named_languages(told)}
    )
    text = render_dataset_card(
        manifest, card=card, samples=samples, passed_over=passed_over, split_bytes=split_bytes, plots=sorted(plots),
    )  # fmt: skip
    _write(space, CARD_FILE, join_card(Card(text, sections)).encode())
    manifest = manifest.model_copy(update={"files": {**entries, CARD_FILE: card_entry(text)}})
    _write(space, PREPARE_FILE, canonical_json(manifest.model_dump(mode="json")).encode())
    if storage.is_url(space.new):
        storage.remove_file(storage.join(space.new, UNFINISHED))
    return manifest


def _write(space: Workspace, name: str, data: bytes) -> None:
    with storage.open_write(storage.join(space.new, name)) as stream:
        stream.write(data)
