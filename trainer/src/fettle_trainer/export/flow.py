"""The way of a result out of the trainer, in two parts.

`stage` writes the weights while the trained model is in memory; it may then be let go. `finish` loads them afresh:
proof → evaluation → merged model → cards and manifests → release, or the gates' veto.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fettle_trainer.adapter.directory import open_adapter_directory
from fettle_trainer.adapter.inspect import inspect_adapter
from fettle_trainer.adapter.inspect_model import inspect_model
from fettle_trainer.atomic import write_atomically
from fettle_trainer.config.compatibility import COMPATIBILITY_NAME
from fettle_trainer.config.manifest import MergeRecord
from fettle_trainer.errors import WrongInputError
from fettle_trainer.evaluate.compare import Comparison, compare, without_adapter
from fettle_trainer.evaluate.gates import missed
from fettle_trainer.export.artefact import write_adapter, write_companions, write_model
from fettle_trainer.export.card import CARD_NAME, adapter_card, model_card
from fettle_trainer.export.compatibility import compatibility
from fettle_trainer.export.lineage import Lineage, adapter_manifest, model_manifest, reported_metrics
from fettle_trainer.export.loading import forget_models, load_artefact, load_merged, on_device
from fettle_trainer.export.proof import MERGED, prove, tolerance_of
from fettle_trainer.export.release import Exported, clear_staging, reject, release, seal, staging_folder
from fettle_trainer.train.model import DTYPES, load_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.adapter import Method
    from fettle_trainer.config.evaluation_report import EvaluationReport
    from fettle_trainer.config.manifest import Manifest
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.evaluate.model_scores import HeldOut
    from fettle_trainer.export.references import References
    from fettle_trainer.train.memory import Precision

Artefact = Literal["adapter", "model"]


@dataclass(frozen=True)
class ExportJob:
    """A finished training, as far as its export depends on it."""

    config: RunConfig
    base: Path
    work: Path
    tokenizer: PreTrainedTokenizerBase
    precision: Precision
    lineage: Lineage
    initial_adapter: Path | None = None
    """The adapter before the first step, where PiSSA or OLoRA made it."""

    @property
    def releases(self) -> Path:
        """The folder in which every artefact has its digest as name."""
        return Path(self.config.output.directory) / self.config.output.adapter_name

    @property
    def wants_merged(self) -> bool:
        """Whether a merged model is asked for beside the adapter."""
        return self.config.method != "full" and "merged" in self.config.output.exports


@dataclass(frozen=True)
class Finished:
    """What came out."""

    exported: tuple[Exported, ...]
    """The adapter, or the model of method full, first."""
    comparison: Comparison | None
    missed: str
    """A sentence on the gates that were missed; empty when the artefacts were released."""


def check_exports(config: RunConfig) -> None:
    """Refuse exports that cannot be made; before training, not after."""
    for kind in config.output.exports:
        if kind in {"onnx", "gguf"}:
            message = f"output.exports: {kind} is not made by this release. Export merged, and convert that."
            raise WrongInputError("ExportUnsupported", message, "output.exports")
        if kind == "adapter" and config.method == "full":
            message = (
                "output.exports: method full trains the whole model, which has no adapter. Leave exports out."
            )
            raise WrongInputError("ExportUnsupported", message, "output.exports")


def stage(model: Any, job: ExportJob) -> Path:
    """Write the trained weights, the tokenizer and the template; return the folder, which has no name yet.

    The model is not good for training afterwards.
    """
    clear_staging(job.releases)
    if job.config.method == "full":
        folder = staging_folder(job.releases, "model")
        # Trained in fp32; what is released has the precision that it will be used in, as its base has.
        write_model(model.to(DTYPES[job.precision]), folder)
    else:
        folder = staging_folder(job.releases, "adapter")
        base = (job.lineage.base_name, job.lineage.base_revision)
        write_adapter(model, folder, base, job.initial_adapter)
    write_companions(job.base, job.tokenizer, folder)
    return folder


def finish(
    staged: Path,
    job: ExportJob,
    references: References,
    data: HeldOut | None,
    check: Callable[[], None] = lambda: None,
) -> Finished:
    """Prove what was staged, measure it, and release it if it passes its gates; no `data`, no measuring."""
    model = load_artefact(staged, job.base, job.config.method, job.precision)
    prove(model, references, tolerance_of(job.config.method, job.precision), job.tokenizer)
    comparison = None
    if data is not None:
        evaluation = job.config.evaluation
        base = partial(lent_base, model, job, job.config.method) if evaluation.compare_to_base else None
        comparison = compare(model, base, data, evaluation.gates, check)
        comparison.write(job.work, data)
    del model
    forget_models()
    report = comparison.report if comparison else None
    check()
    job = replace(job, lineage=replace(job.lineage, metrics=reported_metrics(report)))
    sealed = list(_sealed(staged, job, references, report))
    problem = missed(report.gates) if report else ""
    place = partial(reject, work=job.work) if problem else release
    return Finished(tuple(place(folder, manifest) for folder, manifest in sealed), comparison, problem)


def lent_base(model: Any, job: ExportJob, method: Method) -> AbstractContextManager[Any]:
    """Lend the base of a loaded artefact: without its adapter, or from the base's own files."""
    return without_adapter(model) if method != "full" else _loaded_base(job)


@contextmanager
def _loaded_base(job: ExportJob) -> Iterator[Any]:
    yield on_device(load_base(job.base, "lora", job.precision))
    forget_models()


def _sealed(
    staged: Path, job: ExportJob, references: References, report: EvaluationReport | None
) -> Iterator[tuple[Path, Manifest]]:
    if job.config.method == "full":
        yield staged, _seal_model(staged, job, report, None)
        return
    adapter = _seal_adapter(staged, job, report)
    yield staged, adapter
    if job.wants_merged:
        folder, difference = _merge(staged, job, references)
        record = MergeRecord(
            adapter=adapter.digest,
            base="dequantised" if job.config.method == "qlora" else "original",
            largest_difference=difference,
        )
        yield folder, _seal_model(folder, job, report, record)


def _merge(adapter: Path, job: ExportJob, references: References) -> tuple[Path, float]:
    """Write the merged model and compare it, loaded afresh, with the trained one."""
    folder = staging_folder(job.releases, "model")
    merged = load_merged(adapter, job.base, job.config.method, job.precision)
    write_model(merged, folder)
    del merged
    forget_models()
    write_companions(job.base, job.tokenizer, folder)
    fresh = load_artefact(folder, job.base, job.config.method, job.precision)
    difference = prove(fresh, references, MERGED[job.precision], job.tokenizer)
    del fresh
    forget_models()
    return folder, difference


def _seal_adapter(folder: Path, job: ExportJob, report: EvaluationReport | None) -> Manifest:
    with open_adapter_directory(folder) as directory:
        note = compatibility(inspect_adapter(directory))
    remarks = _remarks(job)
    card = adapter_card(job.config.output.adapter_name, job.lineage, report, note, remarks)
    write_atomically(folder / CARD_NAME, card.encode())
    text = note.model_dump_json(by_alias=True, indent=2) + "\n"
    write_atomically(folder / COMPATIBILITY_NAME, text.encode())
    with open_adapter_directory(folder) as directory:
        manifest = adapter_manifest(inspect_adapter(directory), job.lineage)
    seal(folder, manifest)
    return manifest


def _seal_model(
    folder: Path, job: ExportJob, report: EvaluationReport | None, merge: MergeRecord | None
) -> Manifest:
    card = model_card(job.config.output.adapter_name, job.lineage, report, merge)
    write_atomically(folder / CARD_NAME, card.encode())
    with open_adapter_directory(folder) as directory:
        manifest = model_manifest(inspect_model(directory), job.lineage, merge)
    seal(folder, manifest)
    return manifest


def _remarks(job: ExportJob) -> list[str]:
    if job.initial_adapter is None:
        return []
    init = job.config.lora.init_weights
    return [
        f"Trained from {init} weights and converted for the unchanged base, which doubles rank and alpha."
    ]
