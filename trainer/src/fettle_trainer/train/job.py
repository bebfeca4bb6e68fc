"""From a run's configuration to a job with nothing left to decide: done before any process group starts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from fettle_trainer.atomic import write_atomically
from fettle_trainer.environment import seal_environment
from fettle_trainer.evaluate.metrics import check_metrics
from fettle_trainer.export.base_digest import model_digest, require_base, require_same_base
from fettle_trainer.export.flow import check_exports
from fettle_trainer.processors import settle_threads
from fettle_trainer.text.packing import best_fit
from fettle_trainer.text.prepared import prepare
from fettle_trainer.text.receipt import write_receipt
from fettle_trainer.text.tokenizer import load_tokenizer
from fettle_trainer.train.adapters import earlier_adapter
from fettle_trainer.train.base_model import base_folder
from fettle_trainer.train.chosen import chosen_settings
from fettle_trainer.train.fit import Job
from fettle_trainer.train.folders import run_folders
from fettle_trainer.train.hardware import local_hardware
from fettle_trainer.train.model import has_varlen_attention, model_shape
from fettle_trainer.train.plugins import chosen_loss, class_weight_of
from fettle_trainer.train.settings import RowFacts, adapter_rank, packs_rows, resolve, with_micro_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.data.http import Limits
    from fettle_trainer.text.prepared import Prepared


def make_job(config: RunConfig, limits: Limits) -> Job:
    """Fetch, check, tokenise, pack and resolve; raise WrongInputError with everything the user has to mend."""
    check_exports(config)
    folders = run_folders(config.output)
    base = base_folder(config.model, folders.models, folders.base_model)
    earlier = earlier_adapter(config)
    digest = model_digest(base, folders.work / "base-digest.json")
    require_base(config.model.digest, digest)
    if earlier is not None:
        require_same_base(earlier, digest)
    chosen_loss(config.training.loss)
    prepared = prepare(config, base, folders.work, limits=limits)
    check_metrics(config.evaluation, prepared.row_format, len(prepared.validation))
    class_weight_of(prepared.labels, config.training.loss.class_weights)
    # All that comes from elsewhere is here now.
    seal_environment()

    settle_threads()
    hardware = local_hardware(config.distributed.processes_per_node)
    varlen = has_varlen_attention() and config.training.precision != "fp32"
    packing = packs_rows(config.training, hardware, varlen_attention=varlen)
    packs = best_fit(prepared.train.lengths, prepared.facts.max_length) if packing else None
    shape = model_shape(base, config.method, config.lora, adapter_rank(config, earlier))
    resolved = resolve(
        config, _row_facts(prepared, packs), shape, hardware, varlen_attention=varlen, earlier=earlier
    )
    return Job(
        config=config,
        resolved=resolved,
        folders=folders,
        base=base,
        base_digest=digest,
        parent=None if earlier is None else earlier.digest,
        prepared=prepared,
        packs=packs,
        hardware=hardware,
        shape=shape,
    )


def write_reports(job: Job, tell: Callable[[str], None]) -> None:
    """Leave beside the run what is known before the first step: data, receipt, settings with their reasons."""
    work = job.folders.work
    work.mkdir(parents=True, exist_ok=True)
    report = job.prepared.report.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    write_atomically(work / "dataset.json", (report + "\n").encode())
    for warning in write_receipt(job.prepared, load_tokenizer(job.base), work).warnings:
        tell(f"warning: {warning}")
    write_settings(job)


def write_settings(job: Job) -> None:
    """Leave the settings with every `auto` resolved and the reason for it, and what was chosen by its path."""
    chosen = chosen_settings(job.config, job.resolved, job.prepared.row_format)
    settings = json.dumps(asdict(job.resolved) | {"chosen": chosen}, indent=2)
    write_atomically(job.folders.resolved, (settings + "\n").encode())


def with_micro_batch_of(job: Job, size: int) -> Job:
    """Return the job in smaller pieces; what is learnt stays the same."""
    return replace(job, resolved=with_micro_batch(job.resolved, size, f"{size}: twice as many did not fit"))


def _row_facts(prepared: Prepared, packs: list[list[int]] | None) -> RowFacts:
    lengths = prepared.train.lengths
    longest = int(np.max(lengths)) if packs is None else prepared.facts.max_length
    return RowFacts(
        rows=len(lengths) if packs is None else len(packs),
        max_length=prepared.facts.max_length,
        longest=longest,
        trained_share=float(np.sum(prepared.train.trained) / max(1, np.sum(lengths))),
        validation_rows=len(prepared.validation),
    )
