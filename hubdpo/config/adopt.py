"""Options of `hubdpo adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hubdpo.config.base import Cli, Config
from hubdpo.config.chat_template import HELP, ChatTemplate
from hubdpo.config.torch_names import Device


class AdoptConfig(Config):
    adapter: Annotated[
        str, Cli(argument=True, metavar="DIR|USER/NAME[@REV]", names=("adapter",), call_type=str | Path)
    ] = Field(description="A LoRA adapter that TRL, LLaMA-Factory, axolotl, Unsloth or PEFT itself wrote.")
    output_dir: Annotated[Path, Cli(short="-o", metavar="RUN")] = Field(description="Folder for the run.")
    base: Annotated[str | None, Cli(metavar="DIR|USER/NAME[@REV]", call_type=str | Path | None)] = Field(
        None, description="Base that the adapter was trained on; by default the one that its adapter_config.json names."
    )
    dataset: Annotated[
        str | None, Cli(metavar="DIR|USER/NAME[@REV]", names=("dataset",), call_type=str | Path | None)
    ] = Field(None, description="Prepared dataset that it was trained on, whose held-out pairs it never saw.")
    load_in_4bit: bool | None = Field(
        None, description="Whether the base was quantised to NF4 in training; by default as the adapter's files say."
    )
    chat_template: ChatTemplate = Field(
        None, description=f"{HELP} By default that of the adapter's folder, else the base's."
    )
    device: Device = Field("auto", description="Device on which the probes are recorded.")
