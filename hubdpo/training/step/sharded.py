"""TRL's DPOTrainer where FSDP or DeepSpeed shards it over the processes: the same numbers as in data parallel.

Where weights are sharded, a weight is whole only within the forward pass of its own module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from accelerate.utils import DistributedType
from transformers.integrations import deepspeed as integration
from transformers.trainer_utils import TrainOutput
from trl import DPOTrainer

from hubdpo.errors import ConfigError
from hubdpo.training.sharding import Sharding


class ShardedDPOTrainer(DPOTrainer):
    """DPOTrainer that computes and adds up under FSDP and DeepSpeed as it does under DDP, and as it is without them."""

    bfloat16 = False
    """Whether the forward passes compute in bfloat16."""

    @property
    def shards_weights(self) -> bool:
        """Whether the weights are sharded (FSDP, ZeRO-3), and not gradients and moments alone (ZeRO-2)."""
        return bool(self.is_fsdp_enabled or (self.is_deepspeed_enabled and self.args.hf_deepspeed_config.is_zero3()))

    def follow_ddp(self, *, bfloat16: bool) -> None:
        """Set up what differs from DDP. Weights are whole until `train`."""
        self.bfloat16 = bfloat16
        if self.is_fsdp_enabled:
            # FSDP's own casts send gradients, and return log-probabilities, in bfloat16
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None
        if self.is_deepspeed_enabled:
            # transformers and TRL gather weights as soon as ZeRO-3 is configured, and the engine partitions them later
            integration.unset_hf_deepspeed_config()

    def train(self, *args: object, **kwargs: object) -> TrainOutput:
        if self.is_deepspeed_enabled:
            integration.set_hf_deepspeed_config(self.args.hf_deepspeed_config)
        try:
            return super().train(*args, **kwargs)
        finally:
            integration.unset_hf_deepspeed_config()  # the next run of this process loads its base whole

    def own_autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the autocast of a forward pass. accelerate gives one to DDP alone."""
        if not (self.bfloat16 and (self.is_fsdp_enabled or self.is_deepspeed_enabled)):
            return contextlib.nullcontext()
        autocast: contextlib.AbstractContextManager[None] = torch.autocast(self.args.device.type, torch.bfloat16)
        return autocast

    @contextlib.contextmanager
    def accumulating(self, model: torch.nn.Module) -> Iterator[None]:
        """Run a pass of the body whose gradients are added to those of the passes that follow it in the step."""
        if not self.is_deepspeed_enabled:
            with self.accelerator.no_sync(model):
                yield
            return
        # accelerate lets DeepSpeed's engine take the optimiser step in the backward pass that synchronises
        state = self.accelerator.gradient_state
        synchronises = state.sync_gradients
        state._set_sync_gradients(False)
        try:
            yield
        finally:
            state._set_sync_gradients(synchronises)

    def check_sharded(self, asked: Sharding | None) -> None:
        """Raise ConfigError when accelerate does not shard as it was asked to: where it cannot, it is silent."""
        expected = DistributedType.FSDP if asked is Sharding.FSDP_2 else DistributedType.DEEPSPEED
        started = self.accelerator.distributed_type
        if asked is not None and started != expected:
            raise ConfigError(
                f"{asked} was asked for, and accelerate shards nothing here ({started.value})",
                hint="hubdpo train --num-processes N",
            )


@contextlib.contextmanager
def gathered(weights: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Make weights whole in the body where ZeRO-3 partitions them; every process must take part."""
    partitioned = [weight for weight in weights if hasattr(weight, "ds_id")]
    if not partitioned:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(partitioned):
        yield
