"""Reference log-probs are computed once an answer, and found again whatever pairs use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_grouping import all_pairs, trainer_for
from test_token_budget import config_for

from hubdpo.data.encoded.rows import SIDES, TokenRows
from hubdpo.model.bases.find import find_base
from hubdpo.training.step import reference
from hubdpo.training.step.batch import REFERENCE
from hubdpo.training.step.passes import packed_tokens, padded_tokens
from hubdpo.training.step.reference import add_reference_log_probs, answer_keys, reference_identity
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, use_cached_reference
from hubdpo.version import library_versions
from tests.near import assert_near

Rows = list[dict[str, Any]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def computed(trainer: SharedPrefixDPOTrainer, monkeypatch: pytest.MonkeyPatch, rows: Rows) -> tuple[TokenRows, int]:
    """Return the rows with their reference, and how many answers were computed for it."""
    counts: list[int] = []
    compute = reference._compute

    def counted(trainer: Any, rows: Any, keys: Any, missing: Any) -> Any:
        counts.append(len(missing))
        return compute(trainer, rows, keys, missing)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "_compute", counted)
        found = add_reference_log_probs(trainer, TokenRows.of(rows), identity={"base": "b"})
    return found, sum(counts)


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_the_cached_reference_is_that_of_a_step(
    tiny_base: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, shared_prefix: bool
) -> None:
    rows = all_pairs(4, prompts=3, alike=2) + all_pairs(2, prompts=4, seed=5)
    trainer = trainer_for(tiny_base, tmp_path, rows, shared_prefix=shared_prefix)
    found, answers = computed(trainer, monkeypatch, rows)
    assert answers == 3 * 4 + 4 * 2
    expected = trainer.compute_ref_log_probs(trainer.model, trainer.batch(list(TokenRows.of(rows))))
    for name, values in zip(REFERENCE, expected, strict=True):
        assert_near(torch.tensor(found.numbers(name)), values, share=1e-5)


def test_other_pairs_of_the_same_answers_find_them(
    tiny_base: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = all_pairs(4, prompts=2)
    trainer = trainer_for(tiny_base, tmp_path, rows)
    first, answers = computed(trainer, monkeypatch, rows[:3])  # (0, 1), (0, 2), (0, 3): all four of the first prompt
    assert answers == 4
    swapped = [{**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]} for row in rows[:6]]
    again, answers = computed(trainer, monkeypatch, swapped)
    assert answers == 0
    assert again.numbers("ref_rejected_logps")[:3].tolist() == first.numbers("ref_chosen_logps").tolist()  # type: ignore[index, union-attr]
    _, answers = computed(trainer, monkeypatch, rows)
    assert answers == 4  # those of the second prompt
    assert computed(trainer, monkeypatch, rows)[1] == 0


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_damaged_file_of_the_cache_is_left_out(
    tiny_base: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], harm: str,
) -> None:  # fmt: skip
    rows = all_pairs(3)
    trainer = trainer_for(tiny_base, tmp_path, rows)
    found, _ = computed(trainer, monkeypatch, rows)
    (file,) = cache.rglob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # of a log-prob
    file.write_bytes(data[:-3] if harm == "cut" else data)
    again, answers = computed(trainer, monkeypatch, rows)
    assert answers == 3
    assert "is damaged, and is left out" in " ".join(capsys.readouterr().err.split())
    assert all(np.array_equal(found.numbers(name), again.numbers(name)) for name in REFERENCE)  # type: ignore[arg-type]


@pytest.mark.parametrize("packed", [True, False])
def test_passes_share_out_the_answers_and_keep_to_their_size(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(reference, "TOKENS_PER_BATCH", 150)
    rows = TokenRows.of(all_pairs(5, prompts=3) + all_pairs(2, prompts=6, seed=4))
    keys = {side: answer_keys(rows, side) for side in SIDES}
    missing = np.unique(np.concatenate([*keys.values()]))[::2]  # the cache has the others
    places = {side: reference._places(missing, keys[side]) for side in SIDES}
    batches = list(reference._batches(rows, keys, places, len(missing), packed=packed))
    # each in one pass alone, as the values of all processes are summed
    assert sorted(place for _, new in batches for place in new) == [*range(len(missing))]
    for pairs, new in batches:
        held = [rows[pair] for pair in pairs]
        assert {int(places[side][pair]) for pair in pairs for side in SIDES} >= new
        assert len(pairs) == 1 or (packed_tokens(held) if packed else sum(map(padded_tokens, held))) <= 150


ROW = {"prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "rejected_ids": [6]}


@pytest.mark.parametrize(
    "other",
    [
        {"prompt_ids": [1, 9]},
        {"chosen_ids": [3, 4]},
        {"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5]},  # the same tokens, of which fewer are scored
        {"chosen_context": [1, 2]},
    ],
)
def test_a_key_stands_for_everything_that_a_log_prob_depends_on(other: dict[str, Any]) -> None:
    keys = answer_keys(TokenRows.of([{**ROW, "chosen_context": []}, {**ROW, "chosen_context": [], **other}]), "chosen")
    assert keys[0] != keys[1]


def test_a_key_depends_on_the_other_answer_with_ld_alpha_alone() -> None:
    rows = TokenRows.of([ROW, {**ROW, "rejected_ids": [6, 7]}])
    assert len(set(answer_keys(rows, "chosen").tolist())) == 1
    assert len(set(answer_keys(rows, "chosen", with_length=True).tolist())) == 2


def test_sides_do_not_matter_to_a_key() -> None:
    rows = TokenRows.of([{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [2, 3]}])
    assert answer_keys(rows, SIDES[0]).tolist() == answer_keys(rows, SIDES[1]).tolist()


def test_train_and_held_out_rows_get_their_own(tiny_base: Path, tmp_path: Path, cache: Path) -> None:
    trainer = trainer_for(tiny_base, tmp_path, all_pairs(3, prompts=2))
    use_cached_reference(trainer, {"base": "b"})
    for rows in (trainer.train_dataset, trainer.eval_dataset):
        assert all(np.isfinite(rows.numbers(name)).all() for name in REFERENCE)
    assert len([*(cache / "reference").iterdir()]) == 2  # fused kernels round otherwise


def test_references_are_cached_for_each_base_of_its_own(tiny_base: Path, tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(tiny_base, tmp_path / place / "base")) for place in ("first", "moved", "changed")]
    config = json.loads((folders[2] / "config.json").read_text())
    (folders[2] / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-2}))
    moved = folders[1].rename(tmp_path / "renamed")
    identities = [
        reference_identity(config_for(tmp_path), find_base(str(folder)), "cpu")
        for folder in (folders[0], moved, folders[2])
    ]
    assert identities[0] == identities[1]
    assert identities[0] != identities[2]


@pytest.mark.parametrize("name", ["torch", "transformers", "peft", "bitsandbytes"])
def test_references_are_cached_for_each_version_of_a_library(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    base, versions = find_base(str(tiny_base)), {**library_versions(), name: "0"}
    before = reference_identity(config_for(tmp_path), base, "cpu")
    monkeypatch.setattr(reference, "library_versions", lambda: versions)
    assert reference_identity(config_for(tmp_path), base, "cpu") != before
