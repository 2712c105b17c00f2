"""What the runs of a sweep have in common: one preparation, one base in memory. A run alone has a Common of its own."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hubdpo.artefacts.manifests.run import DatasetRef
from hubdpo.config import TrainConfig
from hubdpo.data.load import Split, open_dataset
from hubdpo.model.bases.as_loaded import AsLoaded
from hubdpo.model.bases.find import Base, find_base
from hubdpo.model.bases.load import load_base
from hubdpo.model.memory import room_for_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hubdpo.training.run.pairs import Pairs

T = TypeVar("T")
BASE = "base"


class Common:
    """Keeps what the first run makes for those after it, whose options may differ only in what `config/sweep.py` lets.

    Between two runs, `put_back` leaves the base as it was loaded.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what was made under a name, or make it."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def base_files(self, config: TrainConfig) -> Base:
        """Find the base, whose files are checked once."""
        return self.once(
            "base files",
            lambda: find_base(
                config.model_name_or_path, config.model_revision, load_in_4bit=config.load_in_4bit,
                needs_template=config.chat_template is None,
            ),
        )  # fmt: skip

    def data(self, config: TrainConfig) -> tuple[dict[str, Split], DatasetRef]:
        """Open the dataset, whose hashes are checked once."""
        return self.once("data", lambda: open_dataset(config.dataset))

    def pairs(self, config: TrainConfig) -> Pairs:
        """Tokenise the pairs of all splits and sets."""
        from hubdpo.training.run.pairs import tokenised  # imports torch

        return self.once("pairs", lambda: tokenised(config, self.base_files(config), self.data(config)[0]))

    def base(self, config: TrainConfig, device: str) -> PreTrainedModel:
        """Load the base, quantised and de-quantised as the options say."""
        files = self.base_files(config)

        def load() -> AsLoaded:
            with room_for_base(load_in_4bit=config.load_in_4bit):
                model = load_base(files.folder, device=device, load_in_4bit=config.load_in_4bit, dtype=config.dtype)
            return AsLoaded(model.dequantize() if config.dequantize_once else model)

        return self.once(BASE, load).model

    def put_back(self) -> None:
        """Leave the base as it was loaded, and free what a run that has ended, or failed, put beside it."""
        base: AsLoaded | None = self._made.get(BASE)
        if base is None:
            return
        import torch

        base.put_back()
        gc.collect()  # a trainer and its callbacks refer to each other
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
