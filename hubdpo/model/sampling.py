"""Generate answers in batches, each drawn with a seed of its own, so that its neighbours do not decide what it says.

`generate` draws the next tokens of a whole batch from one stream of random numbers: an answer would change with the
batch that it is in. Here the noise of an answer comes from its own seed and its own position, and the token is the
argmax of log-probability plus Gumbel noise, which is a draw from the distribution (Gumbel 1954; arXiv 1611.01144,
section 2). What remains is rounding: kernels sum in another order for other shapes, and where two tokens are as likely
to the last bits, another one may win. Batches that are formed alike give equal answers on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubdpo.artefacts.folders.model_files import GENERATION_CONFIG
from hubdpo.errors import ArtefactError
from hubdpo.model.generation import generate_with, stop_ids
from hubdpo.model.log_probs import causal_lm
from hubdpo.model.untrusted import one_line_errors

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_NO_MATTER = {
    "_from_model_config", "bos_token_id", "cache_implementation", "eos_token_id", "max_length", "max_new_tokens",
    "pad_token_id", "transformers_version", "use_cache",
}  # fmt: skip
"""Fields of a generation config that do not decide which words are likely, or that are taken up elsewhere."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: a base's own settings, with transformers' defaults where it has none."""

    max_new_tokens: int
    stops: tuple[int, ...]
    """Ids of the tokens that end an answer."""
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, model: PreTrainedModel | PeftModel, *, max_new_tokens: int, end_of_turn: int | None = None) -> Sampling:
        """Read the generation config of a loaded base. An answer also stops at `end_of_turn`, the chat template's."""
        config = causal_lm(model).generation_config
        stops = stop_ids(config.eos_token_id)
        if end_of_turn is not None and end_of_turn not in stops:
            stops = [*stops, end_of_turn]
        named = [field.name for field in fields(cls) if field.name not in ("max_new_tokens", "stops")]
        own = {name: value for name in named if (value := getattr(config, name, None)) is not None}
        return cls(max_new_tokens, tuple(stops), **own)

    def facts(self) -> dict[str, Any]:
        """Return what decides the answers, as JSON values; settings of sampling only where there is any."""
        all_of_them = {**asdict(self), "stops": list(self.stops)}
        greedy = ("max_new_tokens", "stops", "do_sample", "repetition_penalty")
        return all_of_them if self.do_sample else {name: all_of_them[name] for name in greedy}


class Generated(NamedTuple):
    ids: list[int]
    """Without the stop token."""
    ended: bool
    """Whether a stop token was generated."""


def left_out_settings(model: PreTrainedModel | PeftModel) -> list[str]:
    """Return the names of settings in a base's generation config that Sampling does not follow, such as beams."""
    differs: Mapping[str, Any] = causal_lm(model).generation_config.to_diff_dict()
    known = _NO_MATTER | {field.name for field in fields(Sampling)}
    return sorted(name for name, value in differs.items() if name not in known and value not in (None, [], 0, 1))


def generate(
    model: PreTrainedModel | PeftModel, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
) -> list[Generated]:
    """Return an answer to each prompt of a batch; prompts and answers are token ids. The caller sets evaluation mode.

    Raise ArtefactError when the model fails, for example because its settings make no sense.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    longest, filler = max(map(len, prompts)), sampling.stops[0] if sampling.stops else 0
    # (batch, longest); padding is on the left, so that every answer begins at the same position, and repeats a token of
    # the prompt: in older versions of transformers the penalty of repetition counts hidden ids as well
    ids = torch.tensor([[each[0]] * (longest - len(each)) + list(each) for each in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts], device=model.device)
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=sampling.max_new_tokens, eos_token_id=list(sampling.stops) or None,
        pad_token_id=filler, repetition_penalty=sampling.repetition_penalty,
    )  # fmt: skip
    folder = Path(causal_lm(model).config._name_or_path or GENERATION_CONFIG)
    with one_line_errors(folder, "the model", ArtefactError, "cannot answer"), torch.no_grad():
        drawing = LogitsProcessorList([*_shaping(sampling), _Draw(seeds, model.device)] if sampling.do_sample else [])
        output = generate_with(greedy, model, input_ids=ids, attention_mask=mask, logits_processor=drawing)
    rows: list[list[int]] = output[:, longest:].tolist()
    ends = [next((place for place, token in enumerate(row) if token in sampling.stops), None) for row in rows]
    return [Generated(row[:end], end is not None) for row, end in zip(rows, ends, strict=True)]


def _shaping(sampling: Sampling) -> list[Any]:
    """Return what changes the distribution before a token is drawn, in the order of transformers."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    steps: list[Any] = []
    if sampling.temperature != 1.0:
        steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
    return steps


class _Draw:
    """Add Gumbel noise to log-probabilities `[batch, vocabulary]`: the argmax of each row is then a draw."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        import torch

        self._streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        waits = torch.stack(
            [
                torch.empty(scores.shape[1], dtype=torch.float32, device=scores.device).exponential_(generator=stream)
                for stream in self._streams
            ]
        )
        # minus the logarithm of an exponential variable is a Gumbel variable
        return scores.float() - waits.clamp_min(torch.finfo(torch.float32).tiny).log()
