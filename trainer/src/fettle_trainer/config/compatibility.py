"""`compatibility.json`: what can serve an exported adapter as it is, and what stands in the way."""

from typing import Annotated

from pydantic import Field

from fettle_trainer.config.adapter import ModuleName
from fettle_trainer.config.base import ContractModel

COMPATIBILITY_NAME = "compatibility.json"


class VllmNote(ContractModel):
    """Whether vLLM can load the adapter beside others into a running server."""

    hot_loadable: bool
    max_lora_rank: Annotated[int, Field(ge=1)] | None = None
    """The least `--max-lora-rank` that the server must have been started with."""
    obstacles: tuple[str, ...] = ()
    """Why not, and what to do instead."""


class Compatibility(ContractModel):
    """The facts that decide which engine can serve the adapter."""

    rank: Annotated[int, Field(ge=1)]
    dora: bool
    rslora: bool
    modules_to_save: tuple[ModuleName, ...] = ()
    target_modules: tuple[ModuleName, ...] = ()
    vllm: VllmNote
    peft: bool = True
    """Whether the transformers engine can: it loads whatever PEFT has saved."""
