"""Labels on the assistant's tokens, and not on other turns inside an answer."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.tokens.tokenize import scored_places
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.batch import PairCollator
from hubdpo.training.step.trainer import make_trainer

PLAIN = {"prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "rejected_ids": [6]}
TURNS = {
    "prompt_ids": [1, 2, 3], "chosen_ids": [4, 5, 6, 7, 8, 9], "rejected_ids": [4, 5], "chosen_context": [1, 3, 5, 6],
    "rejected_context": [],
}  # fmt: skip


def test_rows_of_one_turn_make_the_batch_of_trl() -> None:
    ours, theirs = (kind(pad_token_id=0)([PLAIN, PLAIN]) for kind in (PairCollator, DataCollatorForPreference))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tolist() == theirs[name].tolist() for name in theirs)


def test_context_inside_an_answer_is_read_and_not_scored() -> None:
    batch = PairCollator(0)([PLAIN, TURNS])
    assert batch["input_ids"][1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert batch["attention_mask"][1].tolist() == [1] * 9
    assert batch["completion_mask"].tolist() == [
        [0, 0, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0, 0],
    ]  # fmt: skip


def test_scoring_takes_the_tokens_that_have_a_label() -> None:
    batch = PairCollator(0)([PLAIN, TURNS])
    rows = [(row, side) for side in ("chosen", "rejected") for row in (PLAIN, TURNS)]
    for (row, side), mask in zip(rows, batch["completion_mask"], strict=True):
        assert scored_places(row, side) == mask.nonzero()[:, 0].tolist()


def test_the_trainer_uses_the_collator(tiny_base: Path, tmp_path: Path) -> None:
    config = TrainConfig(model_name_or_path=str(tiny_base), dataset="data", output_dir=tmp_path, load_in_4bit=False)
    model = load_base(tiny_base, device="cpu", load_in_4bit=False)
    tokenizer, rows = AutoTokenizer.from_pretrained(tiny_base), TokenRows.of([TURNS])
    trainer = make_trainer(config, model, tokenizer, rows, None, device="cpu", steps=1, callbacks=[])
    (batch,) = map(trainer.batch, trainer.get_train_dataloader())
    assert batch["completion_mask"][0].tolist() == [0, 0, 0, 1, 0, 0, 1, 1, 0]
