"""The check of a dataset together with the model's tokenizer: everything that can be known before training."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from fettle_trainer.data.check import predicted_steps
from fettle_trainer.text.packing import best_fit
from fettle_trainer.text.reading import read_rows
from fettle_trainer.text.selection import select
from fettle_trainer.text.store import TokenWriter, open_store
from fettle_trainer.text.tokenizer import load_tokenizer, most_positions

if TYPE_CHECKING:
    from fettle_trainer.config.dataset_report import DatasetReport
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.data.check import FoundFiles


class TokenCheck(NamedTuple):
    """What was found, and into how many sequences the rows would be packed, if they were."""

    report: DatasetReport
    packs: int | None = None


def check_tokens(config: RunConfig, model_folder: Path, files: FoundFiles) -> TokenCheck:
    """Read all files as training would, and report; the tokens themselves are not kept."""
    tokenizer = load_tokenizer(model_folder)
    with TemporaryDirectory(prefix="fettle-check-") as name:
        folder = Path(name) / "tokens"
        with TokenWriter(Path(name), with_ids=False) as writer:
            read = read_rows(config, files, tokenizer, writer)
            writer.finish(folder, {})
        store = open_store(folder)
        if store is None or not len(store.rows):
            return TokenCheck(read.report)
        selection = select(
            store,
            read.report,
            read.names,
            config.training,
            max_length=None,
            positions=most_positions(model_folder),
        )
    facts = selection.facts
    # Packing that is left open is decided by the GPU that the run gets.
    packs = len(best_fit(selection.train.lengths, facts.max_length)) if config.training.packing else None
    steps = predicted_steps(facts.rows if packs is None else packs, config.training)
    return TokenCheck(selection.report.model_copy(update={"predicted_steps": steps}), packs)
