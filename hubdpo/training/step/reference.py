"""Reference log-probabilities, computed once for each answer and cached on disk.

They depend on reference, prompt and answer, not on training or on the pairs that use the answer. So a resumed run,
another epoch, a sweep, and a dataset that pairs the same answers otherwise find them in the cache. A folder of it
stands for everything else that the values depend on; its files have a column of keys, which are hashes of token ids,
and one of values. Only missing answers are computed: prompt by prompt, so that a pass runs each prompt once, shortest
first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from safetensors.numpy import load_file, save

from hubdpo import console
from hubdpo.artefacts.folders.cache import cache_folder, why_not_cached
from hubdpo.artefacts.manifests.manifest import fingerprint, write_atomic
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import SIDES, TokenRows
from hubdpo.evaluation.scoring import Once, anew
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.bases.find import Base
from hubdpo.model.bases.identity import key_of
from hubdpo.training.step.batch import REFERENCE, scored_tokens
from hubdpo.training.step.grouping import Groups, Keys, keys_of
from hubdpo.version import COMPUTING_LIBRARIES, library_versions

if TYPE_CHECKING:
    from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

TOKENS_PER_BATCH = 8192
"""Tokens of a forward pass without gradients: packed ones, or about as many padded ones without a packed pass."""


def add_reference_log_probs(
    trainer: SharedPrefixDPOTrainer, rows: TokenRows, *, identity: Mapping[str, object], once: Once = anew
) -> TokenRows:
    """Return the rows with `ref_chosen_logps` and `ref_rejected_logps`: sums over the answer's tokens, in nats.

    `identity` names the base, its precision and everything else that the values depend on, besides the rows. `once`
    keeps the values for the next run of this process.
    """
    if not len(rows):
        return rows
    folder = cache_folder("reference") / fingerprint(identity)
    keys = {side: answer_keys(rows, side, with_length="ld_alpha" in identity) for side in SIDES}
    wanted = np.unique(np.concatenate([*keys.values()]))
    name = f"reference {folder.name} of {xxhash.xxh3_128_hexdigest(wanted.tobytes())}"
    values = once(name, lambda: _values(trainer, rows, keys, wanted, folder))
    for side, column in zip(SIDES, REFERENCE, strict=True):
        rows = rows.with_column(column, values[np.searchsorted(wanted, keys[side])])
    return rows


def _values(
    trainer: SharedPrefixDPOTrainer, rows: TokenRows, keys: Mapping[str, Keys], wanted: Keys, folder: Path
) -> npt.NDArray[np.float64]:
    """Return the log-probs of the wanted answers, from a folder of the cache as far as it has them."""
    known, values = _cached(folder, wanted)
    # computing is collective, so all processes must miss the same answers
    counts = trainer.accelerator.reduce(torch.from_numpy(known.astype(np.int32)).to(trainer.accelerator.device))
    known = (counts == trainer.accelerator.num_processes).cpu().numpy()
    found = console.counted(int(known.sum()), "answer")
    if known.any():
        console.info(f"reference {found} from {folder}")
    if not known.all():
        values = np.where(known, values, 0.0)
        missing = ~known
        values[missing] = _compute(trainer, rows, keys, wanted[missing])
        if trainer.accelerator.is_local_main_process:
            _save(folder, wanted[missing], values[missing])
    return values


def reference_identity(
    config: TrainConfig, base: Base, device: str, start: StartAdapter | None = None
) -> dict[str, object]:
    """Name everything that reference log-probs depend on, besides the rows."""
    # chat template and lengths need no entry: the token ids of the rows tell them
    versions = library_versions()
    adapter = {"adapter": start.ref.sha256, "lora": start.lora} if start is not None else {}
    return {
        **(adapter if config.reference_adapter == "frozen" else {}),
        "base": key_of(base.ref), "load_in_4bit": config.load_in_4bit, "device": device,
        "shared_prefix": config.shared_prefix, **({} if config.dtype == "auto" else {"dtype": config.dtype}),
        "versions": {name: versions[name] for name in COMPUTING_LIBRARIES},
        **({} if config.ld_alpha is None else {"ld_alpha": config.ld_alpha}),
    }  # fmt: skip


def answer_keys(rows: TokenRows, side: str, *, with_length: bool = False) -> Keys:
    """Return a hash `[pairs]` of everything in a row that an answer's log-prob depends on.

    It has 64 bits: among two million answers, two have the same with a probability of 1e-7.

    `with_length` is for LD-DPO (`ld_alpha`), which weighs tokens by the length of the shorter answer of their pair.
    """
    keys = keys_of(rows, "prompt_ids")
    for name in (f"{side}_ids", f"{side}_context"):
        keys = _combined(keys, keys_of(rows, name))
    if with_length:
        shorter = (min(scored_tokens(row, each) for each in SIDES) for row in rows)
        keys = _combined(keys, np.fromiter(shorter, dtype=np.uint64, count=len(rows)))
    return keys


def _combined(keys: Keys, others: Keys) -> Keys:
    """Return a hash of both, which depends on their order: a step of SplitMix64 (Steele, Lea, Flood 2014)."""
    mixed = keys * np.uint64(0x9E3779B97F4A7C15) + others  # modulo 2**64
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _cached(folder: Path, wanted: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which of the keys a folder of the cache has, and their values."""
    known, values = np.zeros(len(wanted), dtype=bool), np.zeros(len(wanted))
    for path in sorted(folder.glob("*.safetensors")):
        try:
            columns = load_file(path)
            keys, numbers = columns["keys"], columns["log_probs"]
            if path.stem != _hash(keys, numbers):
                raise ValueError("it is not what was written")
        except Exception as error:  # a machine that stopped, a disk that lies, or a file that is not hubdpo's
            console.warn(f"{path} is damaged, and is left out: {error}")
            continue
        places = _places(wanted, keys)
        here = places >= 0
        known[places[here]], values[places[here]] = True, numbers[here]
    return known, values


def _compute(
    trainer: SharedPrefixDPOTrainer, rows: TokenRows, keys: Mapping[str, Keys], missing: Keys
) -> npt.NDArray[np.float64]:
    """Return the log-probs `[missing]` of answers, in nats; the processes share the passes."""
    values, accelerator = np.zeros(len(missing)), trainer.accelerator
    # [pairs] which of the missing answers a side is, -1 if none
    places = {side: _places(missing, keys[side]) for side in SIDES}
    batches = _batches(rows, keys, places, len(missing), packed=trainer.shared_prefix is not None)
    with console.progress("reference log-probs", len(missing)) as bar:
        for pairs, new in islice(batches, accelerator.process_index, None, accelerator.num_processes):
            found = trainer.compute_ref_log_probs(trainer.model, trainer.batch([rows[pair] for pair in pairs]))
            for side, log_probs in zip(SIDES, found, strict=True):
                # [B] in float32, whose values float64 holds exactly
                for place, value in zip(places[side][pairs], log_probs.tolist(), strict=True):
                    if place in new:
                        values[place] = value
            bar.update(bar.task_ids[0], advance=len(new) * accelerator.num_processes)
    # an answer is 0 in every process but the one that computed it, so the sum over processes is its value
    summed: npt.NDArray[np.float64] = accelerator.reduce(torch.from_numpy(values).to(accelerator.device)).cpu().numpy()
    return summed


def _places(ordered: Keys, keys: Keys) -> npt.NDArray[np.int64]:
    """Return the place of each key among ordered ones, -1 where it is not among them."""
    places = np.searchsorted(ordered, keys).clip(max=len(ordered) - 1)
    return np.where(ordered[places] == keys, places, -1)


def _batches(
    rows: TokenRows,
    keys: Mapping[str, Keys],
    places: Mapping[str, npt.NDArray[np.int64]],
    missing: int,
    *,
    packed: bool,
) -> Iterator[tuple[list[int], set[int]]]:
    """Return the pairs of each forward pass, and which of the missing answers no pass before it has."""
    groups, seen = Groups(rows), np.zeros(missing, dtype=bool)
    longest = rows.lengths[:, 0] + rows.lengths[:, 1:].max(axis=1)
    batch, answers, held, used = list[int](), set[int](), set[tuple[int, int]](), 0
    for group in np.argsort(np.maximum.reduceat(longest[groups.order], groups.bounds[:-1]), kind="stable").tolist():
        for pair in groups.closest(group):
            new = {place for place in (int(places[side][pair]) for side in SIDES) if place >= 0 and not seen[place]}
            if not new:
                continue
            # what the pair brings into a packed pass: its prompt and its answers, as far as they are not there
            parts = {(group, -1 - group): int(rows.lengths[pair, 0])}
            parts |= {(group, int(keys[side][pair])): int(rows.lengths[pair, i]) for i, side in enumerate(SIDES, 1)}
            own = parts if packed else {(pair, 0): 2 * int(longest[pair])}  # padded, pairs of like length meet
            if batch and used + sum(own[part] for part in own.keys() - held) > TOKENS_PER_BATCH:
                yield batch, answers
                batch, answers, held, used = [], set(), set(), 0
            batch.append(pair)
            used += sum(own[part] for part in own.keys() - held)
            held |= own.keys()
            answers |= new
            seen[[*new]] = True
    if batch:
        yield batch, answers


def _save(folder: Path, keys: Keys, values: npt.NDArray[np.float64]) -> None:
    """Write a cache file for later runs; warn when the machine refuses, as this run has the values in memory."""
    path = folder / f"{_hash(keys, values)}.safetensors"
    try:
        write_atomic(path, save({"keys": keys, "log_probs": values}))
    except Exception as error:
        console.warn(f"the reference log-probs cannot be cached for later runs: {why_not_cached(error, folder)}")


def _hash(keys: Keys, values: npt.NDArray[np.float64]) -> str:
    """Return the name of a cache file, by which a damaged one is found."""
    return str(xxhash.xxh3_128_hexdigest(keys.tobytes() + values.tobytes()))
