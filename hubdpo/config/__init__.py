"""The options of every command, each declared once. Nothing here imports torch or a Hugging Face library."""

from hubdpo.config.adopt import AdoptConfig
from hubdpo.config.base import Cli, Config
from hubdpo.config.evaluate import EvaluateConfig
from hubdpo.config.export import ExportConfig
from hubdpo.config.merge import MergeConfig
from hubdpo.config.prepare import PrepareConfig
from hubdpo.config.push import PushConfig
from hubdpo.config.sweep import SweepConfig
from hubdpo.config.train import TrainConfig

__all__ = [
    "AdoptConfig", "Cli", "Config", "EvaluateConfig", "ExportConfig", "MergeConfig", "PrepareConfig", "PushConfig",
    "SweepConfig", "TrainConfig",
]  # fmt: skip
