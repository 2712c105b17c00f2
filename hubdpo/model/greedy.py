"""Answers that are the model's own choice: greedy, and of a repo's generation_config.json only where an answer ends.

transformers fills whatever a caller leaves open from that file: 20,000 beams, strings to stop at, code to fetch.
"""

from __future__ import annotations

from typing import Any

from hubdpo.errors import ArtefactError
from hubdpo.model.stopping import GENERATION_FILE

MOST_ID = 2**31


def generate_greedily(model: Any, tokenizer: Any, inputs: Any, *, max_new_tokens: int) -> str:
    """Return the greedy answer to one prompt, the `input_ids` (1 x its length) and mask in `inputs`.

    Raise ArtefactError when the tokens that end an answer are no ids.
    """
    import torch
    from transformers import GenerationConfig

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    stops = stop_ids(inner.generation_config.eos_token_id)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(stops), None)
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stops or None, pad_token_id=pad
    )
    holders = [one for one in (model, inner) if "generation_config" in vars(one)]
    before = [one.generation_config for one in holders]
    try:
        for one in holders:
            one.generation_config = greedy
        with torch.no_grad():
            output = model.generate(**inputs, generation_config=greedy)
    finally:
        for one, own in zip(holders, before, strict=True):
            one.generation_config = own
    text: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()


def stop_ids(told: Any) -> list[int]:
    """Return the tokens that end an answer, of which `eos_token_id` may tell one or many or none. Raise ArtefactError
    for what is no id.
    """
    ids = told if isinstance(told, list) else [] if told is None else [told]
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, int) or abs(one) > MOST_ID:
            raise ArtefactError(
                f"`eos_token_id` of {GENERATION_FILE} is {repr(one)[:80]}, and it must be the id of a token",
                hint=f"correct it in {GENERATION_FILE}, or tell its owner",
            )
    return ids
