"""What a sweep says of a finished run: its scores on the held-out pairs, and how far it moved from its reference."""

from __future__ import annotations

from hubdpo import console
from hubdpo.artefacts.folders.model_files import ADAPTER_WEIGHTS
from hubdpo.artefacts.formats.pair_scores import START
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, file_entry
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import Divergence, SweptRun
from hubdpo.config import TrainConfig
from hubdpo.config.objective import uses_reference
from hubdpo.config.sweep import Point
from hubdpo.errors import TrainingError
from hubdpo.evaluation.divergence import MOST_PAIRS, kl_to
from hubdpo.evaluation.models import BASE, Models
from hubdpo.model.adapters.load import attach_adapter
from hubdpo.model.adapters.reference import add_reference
from hubdpo.model.adapters.start import find_start
from hubdpo.model.device import pick_device
from hubdpo.model.memory import out_of_memory_is
from hubdpo.training.common import Common


def measured(point: Point, run: RunManifest, before: SweptRun, common: Common) -> SweptRun:
    """Return a finished run with its figures; the KL is computed again only where the adapter is another."""
    folder = point.config.output_dir
    adapter = file_entry(folder / ADAPTER_WEIGHTS).sha256
    loss = run.metrics.get("eval_loss", run.metrics.get("train_loss"))
    after = SweptRun(name=point.name, values=before.values, status="complete", adapter=adapter, loss=loss)
    if not (folder / EVAL_FILE).is_file():
        return after
    report = EvalReport.read(folder / EVAL_FILE)
    known = before.divergence if before.adapter == adapter else None
    figures = {
        "pairs": report.pairs, "accuracy": report.reward_accuracy, "margin": report.reward_margin,
        "divergence": known or _divergence(point.config, common),
    }  # fmt: skip
    return after.model_copy(update=figures)


def _divergence(config: TrainConfig, common: Common) -> Divergence | None:
    """Attach the adapter of a run to the base, and compare it with its reference on the first held-out pairs."""
    test = common.pairs(config).test
    if test is None:
        return None
    rows = [test.rows[index] for index in range(min(len(test.rows), MOST_PAIRS))]
    try:
        with out_of_memory_is(lambda: TrainingError("the device ran out of memory")):
            model = attach_adapter(common.base(config, pick_device(config.device)), config.output_dir)
            if config.adapter is not None and config.reference_adapter == "frozen" and uses_reference(config.loss_type):
                add_reference(model, find_start(config.adapter).folder)
            models = Models(model)
            return kl_to(START if START in models.names else BASE, models, rows)
    except TrainingError as problem:
        console.warn(f"the KL of `{config.output_dir}` to its reference was not measured: {problem.message}")
        return None
    finally:
        common.put_back()
