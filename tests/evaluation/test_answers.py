"""Answers to held-out prompts: which prompts, how they are drawn, and that none is asked for twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.evaluation import answers
from hubdpo.evaluation.answers import (
    ANSWERS,
    ANSWERS_FILE,
    Answer,
    Answers,
    Asked,
    Prompt,
    answers_of,
    ask,
    draw_prompts,
)
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.models import Models
from hubdpo.model.device import hardware_name
from hubdpo.model.generation import answer_chat
from hubdpo.model.sampling import Generated, Sampling, _Draw, generate

QUESTIONS = ("How do I begin?", "What is it?", "Can you tell me the best way to learn it in ten minutes?", "慢慢来吗？")
PROMPTS = [Prompt(10 * row, ({"role": "user", "content": text},)) for row, text in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_base)


@pytest.fixture
def model(tiny_base: Path) -> PreTrainedModel:
    """The tiny base, which draws its answers."""
    loaded = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    loaded.generation_config.update(do_sample=True, temperature=0.8, top_k=40, top_p=0.95)
    return loaded


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, key: str = "tiny", batch_size: int = 2
) -> list[Answer]:
    """Let a model answer PROMPTS."""
    encoder = ChatEncoder(tokenizer)
    assert encoder.end_of_turn is not None
    return answers_of(
        model, tokenizer, [Asked(prompt, encoder.prompt(prompt.messages)) for prompt in PROMPTS],
        Sampling.of(model, max_new_tokens=12, end_of_turn=encoder.end_of_turn[1]),
        kept=Kept(folder / ANSWERS_FILE, ANSWERS), model_key=key, batch_size=batch_size, name="base",
    )  # fmt: skip


def test_an_answer_has_its_part_of_the_time_of_its_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100, 6))
    monkeypatch.setattr(answers.time, "perf_counter", lambda: next(clock))
    took = [each.took for each in answer(model, tokenizer, tmp_path, batch_size=3)]
    assert {(each.seconds, each.at_once) for each in took if each} == {(2.0, 3), (6.0, 1)}
    assert {each.device for each in took if each} == {hardware_name("cpu")}
    assert answer(model, tokenizer, tmp_path, batch_size=3)[0].took == took[0]


def ask_both(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, rows: list[dict[str, Any]]
) -> Answers:
    """Draw prompts from rows for a model that is its own base."""
    models = Models(model, base=model, keys={"base": "one", "adapter": "other"})
    kept = Kept(folder / ANSWERS_FILE, ANSWERS)
    return ask(models, tokenizer, rows, kept=kept, count=10, max_new_tokens=12, batch_size=4)


def rows(*texts: str) -> list[dict[str, Any]]:
    return [{"prompt": [{"role": "user", "content": text}]} for text in texts]


def test_distinct_prompts_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = draw_prompts(rows("a", "b", "a", "c", "b"), 10)
    assert [(prompt.row, prompt.messages[0]["content"]) for prompt in drawn] == [(0, "a"), (1, "b"), (3, "c")]
    assert "3 prompts to answer, of 3 different ones in 5 held-out rows" in capsys.readouterr().err


def test_the_draw_does_not_depend_on_the_order_of_rows_and_grows() -> None:
    texts = [f"question {number}" for number in range(50)]
    drawn, turned = draw_prompts(rows(*texts), 8), draw_prompts(rows(*reversed(texts)), 8)
    assert {prompt.messages[0]["content"] for prompt in drawn} == {each.messages[0]["content"] for each in turned}
    assert [prompt.row for prompt in drawn] == sorted(prompt.row for prompt in drawn) != list(range(8))
    assert set(map(str, drawn)) < set(map(str, draw_prompts(rows(*texts), 9)))
    assert drawn != draw_prompts(rows(*texts), 8, seed=1)


def test_a_prompt_with_other_tools_is_another_one() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    drawn = draw_prompts([*rows("a"), {**rows("a")[0], "tools": [tool]}], 10)
    assert [prompt.tools[:20] for prompt in drawn] == ["", '[{"type":"function",']


def test_an_answer_does_not_depend_on_its_neighbours(model: PreTrainedModel) -> None:
    sampling = Sampling.of(model, max_new_tokens=12)
    prompts, seeds = [[5, 6, 7], list(range(20, 60)), [8]], [1, 5, 3]
    together = generate(model, prompts, seeds, sampling)
    alone = [generate(model, [prompt], [seed], sampling)[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert together == alone
    assert generate(model, prompts[:1], [4], sampling) != together[:1]


def test_padding_is_not_taken_for_words_that_were_said(model: PreTrainedModel) -> None:
    """A penalty of repetition counts all tokens before; a filler among them would make an end less likely."""
    likeliest = generate(model, [[5, 6, 7]], [0], Sampling(1, (), repetition_penalty=5.0))[0].ids[0]
    sampling = Sampling(12, (likeliest,), repetition_penalty=5.0)
    alone = generate(model, [[5, 6, 7]], [0], sampling)
    assert alone[0].ended
    assert generate(model, [[5, 6, 7], list(range(20, 60))], [0, 0], sampling)[:1] == alone


def test_tokens_are_drawn_with_their_probabilities() -> None:
    shares = torch.tensor([0.6, 0.0, 0.3, 0.1])
    draw = _Draw(range(4000), torch.device("cpu"))
    tokens = Counter(draw(torch.empty(0), shares.log().expand(4000, 4)).argmax(dim=1).tolist())
    assert [tokens[token] / 4000 for token in range(4)] == pytest.approx(shares.tolist(), abs=0.03)
    assert tokens[1] == 0


def test_the_settings_of_the_base_shape_what_is_drawn(model: PreTrainedModel) -> None:
    model.generation_config.update(top_k=1)
    one = generate(model, [[5, 6, 7]], [1], Sampling.of(model, max_new_tokens=8))
    model.generation_config.update(do_sample=False)
    assert generate(model, [[5, 6, 7]], [2], Sampling.of(model, max_new_tokens=8)) == one


def test_greedy_answers_are_those_of_one_prompt_at_a_time(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model.generation_config.update(do_sample=False)
    found = answer(model, tokenizer, tmp_path, batch_size=4)
    assert [answer.row for answer in found] == [0, 10, 20, 30]
    assert [answer.text for answer in found] == [
        answer_chat(model, tokenizer, prompt.messages, max_new_tokens=12) for prompt in PROMPTS
    ]


def test_an_answer_ends_where_the_template_ends_a_turn(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.generation_config.eos_token_id = 0
    model.generation_config.update(do_sample=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    real = model.generate

    def then_ends(**options: Any) -> torch.Tensor:
        output = real(**options)
        assert options["generation_config"].eos_token_id == [0, end]
        output[0, -2:] = torch.tensor([end, 0])
        return output

    monkeypatch.setattr(model, "generate", then_ends)
    found = answer(model, tokenizer, tmp_path, batch_size=4)
    # the longest prompt is the first of the batch
    assert [(answer.tokens, answer.ended) for answer in found] == [(12, False), (12, False), (10, True), (12, False)]


def test_a_killed_evaluation_asks_for_no_answer_twice(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answer(model, tokenizer, tmp_path / "whole")
    calls: list[int] = []
    dies_at = 2

    def dying(model: Any, prompts: Any, seeds: Any, sampling: Any) -> list[Generated]:
        calls.append(len(prompts))
        if len(calls) == dies_at:
            raise KeyboardInterrupt
        return generate(model, prompts, seeds, sampling)

    monkeypatch.setattr(answers, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        answer(model, tokenizer, tmp_path / "killed")
    dies_at = 0
    assert answer(model, tokenizer, tmp_path / "killed") == whole
    assert calls == [2, 2, 2]
    answer(model, tokenizer, tmp_path / "killed")
    assert len(calls) == 3
    answer(model, tokenizer, tmp_path / "killed", key="another")
    model.generation_config.update(top_p=0.5)
    answer(model, tokenizer, tmp_path / "killed")
    assert len(calls) == 7


def test_an_answer_that_was_edited_away_is_asked_for_again(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    found = answer(model, tokenizer, tmp_path)
    lines = (tmp_path / ANSWERS_FILE).read_text(encoding="utf-8")
    (tmp_path / ANSWERS_FILE).write_text(lines.replace('"tokens"', '"words"', 1), encoding="utf-8")
    assert answer(model, tokenizer, tmp_path) == found


def test_prompts_that_cannot_be_answered_are_named(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.config.max_position_embeddings = 50
    tokenizer = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + tokenizer.chat_template
    )
    system = {"prompt": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What?"}]}
    found = ask_both(model, tokenizer, tmp_path, [system, *rows(*QUESTIONS[:2], "What is it? " * 5)])
    assert [answer.row for answer in found.of["base"]] == [answer.row for answer in found.of["adapter"]] == [1, 2]
    err = " ".join(capsys.readouterr().err.split())
    assert err.count("1 prompt not asked: the chat template refuses them or does not show a part of them (row 0 ") == 1
    assert "1 prompt not asked: with 12 tokens of an answer they are longer than the 50 of the model (row 3 of" in err


def test_both_models_get_the_same_random_numbers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    found = ask_both(model, tokenizer, tmp_path, rows(*QUESTIONS))
    assert found.of["base"] == found.of["adapter"]
    assert len((tmp_path / ANSWERS_FILE).read_bytes().splitlines()) == 8


def test_settings_that_are_not_followed_are_named(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.generation_config.update(num_beams=4, typical_p=1.0, early_stopping=False, no_repeat_ngram_size=3)
    ask_both(model, tokenizer, tmp_path, rows("What is it?"))
    assert "drawn without `no_repeat_ngram_size`, `num_beams` of the base's generation" in capsys.readouterr().err
