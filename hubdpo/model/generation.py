"""Generate greedy answers, and stop them where the chat template ends a turn.

transformers fills every setting that a caller leaves open from the repo's generation_config.json, such as 20,000 beams,
strings to stop at or code to fetch. Only the tokens that end an answer are taken from there.

A base that was never tuned to chat stops at `<|endoftext|>`, while ChatML ends a turn with `<|im_end|>`. An adapter
that learned to end its answers with `<|im_end|>` would never stop if only the base's own token counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubdpo.artefacts.folders.model_files import CONFIG, GENERATION_CONFIG
from hubdpo.artefacts.manifests.manifest import canonical_json, write_atomic
from hubdpo.artefacts.manifests.run import EndOfTurn, RunManifest
from hubdpo.errors import ArtefactError, HubdpoError
from hubdpo.model.log_probs import causal_lm
from hubdpo.model.tokenizer.rendering import encoded
from hubdpo.model.untrusted import one_line_errors, read_json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

MOST_ID = 2**31


def answer_chat(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, chat: Sequence[Mapping[str, str]], *,
    max_new_tokens: int, error: type[HubdpoError] = ArtefactError,
) -> str:  # fmt: skip
    """Return the greedy answer of a model to a chat.

    Raise `error` when the chat template is missing, refuses the chat, goes beyond a limit on it or renders nothing;
    and when the model fails, for example because its config loads and makes no sense.
    """
    import torch
    from transformers import GenerationConfig

    folder = Path(tokenizer.name_or_path)
    with one_line_errors(folder, "the chat template", error):
        inputs = encoded(tokenizer, chat, error=error).to(model.device)  # input_ids and mask, shaped (1, tokens)
    stops = stop_ids(causal_lm(model).generation_config.eos_token_id)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(stops), None)
    with one_line_errors(folder, "the model", error, "cannot answer"), torch.no_grad():
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stops or None, pad_token_id=pad
        )
        output = generate_with(greedy, model, **inputs)
    text: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()


def generate_with(config: GenerationConfig, model: PreTrainedModel | PeftModel, **inputs: Any) -> torch.Tensor:
    """Generate token ids `[batch, prompt and answer]` with a config alone, not with what the model's own says besides.

    transformers fills what a config leaves open from that of the model, and PEFT has one of its own.
    """
    holders = [holder for holder in (model, causal_lm(model)) if "generation_config" in vars(holder)]
    before = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = config
    try:
        output: torch.Tensor = model.generate(**inputs, generation_config=config)
        return output
    finally:
        for holder, own_config in zip(holders, before, strict=True):
            holder.generation_config = own_config


def stop_ids(eos_token_id: object) -> list[int]:
    """Return the stop tokens that `eos_token_id` names: one, a list or none. Raise ArtefactError for anything else."""
    ids: list[Any] = eos_token_id if isinstance(eos_token_id, list) else [] if eos_token_id is None else [eos_token_id]
    for token_id in ids:
        if type(token_id) is not int or abs(token_id) > MOST_ID:
            raise ArtefactError(
                f"`eos_token_id` of {GENERATION_CONFIG} is {repr(token_id)[:80]}, and it must be the id of a token",
                hint=f"correct it in {GENERATION_CONFIG}, or tell its owner",
            )
    return ids


def unstopped(base: Path, end_of_turn: tuple[str, int] | None) -> EndOfTurn | None:
    """Return the token, as text and id, that ends a turn when the generation of the base does not stop at it."""
    if end_of_turn is None:
        return None
    token, token_id = end_of_turn
    stops = _stops_of(base)
    return None if token_id in stops else EndOfTurn(token=token, id=token_id, base_stops_at=stops)


def _stops_of(base: Path) -> list[int]:
    for name in (GENERATION_CONFIG, CONFIG):
        if (base / name).exists() and (eos := read_json(base / name).get("eos_token_id")) is not None:
            return [token_id for token_id in (eos if isinstance(eos, list) else [eos]) if isinstance(token_id, int)]
    return []


def write_stops(folder: Path, end: EndOfTurn) -> None:
    """Add the end of a turn to the stop tokens of a folder's generation config, and create the file where it lacks."""
    path = folder / GENERATION_CONFIG
    settings = read_json(path) if path.exists() else {}
    settings.pop("_from_model_config", None)  # with this key transformers may go by config.json after all
    write_atomic(path, canonical_json({**settings, "eos_token_id": end.all_stops}))


def use_stops(model: PreTrainedModel, run: RunManifest) -> None:
    """Let a loaded base stop where the answers of the run end that adapts it."""
    if run.end_of_turn is not None:
        model.generation_config.eos_token_id = run.end_of_turn.all_stops


def stops_elsewhere(run: RunManifest) -> str | None:
    """Return a warning for a run whose base does not stop at the end of a turn, None for other runs."""
    end = run.end_of_turn
    if end is None:
        return None
    stops = " and ".join(map(str, end.base_stops_at)) or "no token"
    return (
        f"the chat template ends a turn with `{end.token}` (id {end.id}), but generation with `{run.base.name}` stops "
        f"at {stops}; the run's {GENERATION_CONFIG} stops at both, and programs that read the base's need "
        f"`stop_token_ids` [{end.id}]"
    )
