"""Where a run keeps what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.data.kept import KEPT_NAME

if TYPE_CHECKING:
    from fettle_trainer.config.run import OutputConfig


@dataclass(frozen=True)
class RunFolders:
    """The folders and files of one run; runs of one work folder are attempts of the same run."""

    output: Path
    """What users read: `<adapterName>/<digest>/` below it."""
    work: Path
    """What the run itself needs, and its reports."""

    @property
    def checkpoints(self) -> Path:
        """The checkpoints."""
        return self.work / "checkpoints"

    @property
    def resolved(self) -> Path:
        """The settings with every `auto` resolved."""
        return self.work / "resolved.json"

    @property
    def fitted(self) -> Path:
        """What the training left for evaluation and export; it exists when the steps are done."""
        return self.work / "fitted.json"

    @property
    def initial_adapter(self) -> Path:
        """The adapter before the first step, where PiSSA or OLoRA made it from the base's weights."""
        return self.work / "initial-adapter"

    @property
    def base_model(self) -> Path:
        """Which revision of a hub model the run began with."""
        return self.work / "base-model.json"

    @property
    def datasets(self) -> Path:
        """Datasets of the hub, as they were when the run began."""
        return self.work / KEPT_NAME

    @property
    def models(self) -> Path:
        """Base models from the hub, each revision once for all runs of the store."""
        return self.output / ".fettle" / "models"


def run_folders(output: OutputConfig) -> RunFolders:
    """Return the folders of a run's configuration."""
    directory = Path(output.directory)
    work = (
        Path(output.work_directory) if output.work_directory else directory / ".fettle" / output.adapter_name
    )
    return RunFolders(directory, work)
