"""The README of an artefact: what it is, how good it is, and how to use it, for whoever finds the folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_trainer.config.compatibility import Compatibility
    from fettle_trainer.config.evaluation_report import EvaluationReport
    from fettle_trainer.config.manifest import MergeRecord
    from fettle_trainer.export.lineage import Lineage

CARD_NAME: Final = "README.md"

_ADAPTER_USE: Final = """## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, "PATH/TO/THIS/FOLDER")
```

Render prompts with `chat_template.jinja` of this folder, as in training."""
_MODEL_USE: Final = """## Use

```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("PATH/TO/THIS/FOLDER")
```"""


def adapter_card(
    name: str,
    lineage: Lineage,
    report: EvaluationReport | None,
    note: Compatibility,
    remarks: Sequence[str] = (),
) -> str:
    """Return the card of an adapter."""
    kind = "DoRA" if note.dora else "LoRA"
    parts = [
        _front_matter(lineage, "peft"),
        f"# {name}\n\nA {kind} adapter of rank {note.rank} for `{lineage.base_name}`, by method `{lineage.method}`.",
        "\n".join(f"- {remark}" for remark in remarks),
        _results(report),
        _ADAPTER_USE.format(base=json.dumps(lineage.base_name)),
        _serving(note),
        _origin(lineage),
    ]
    return _joined(parts)


def model_card(
    name: str, lineage: Lineage, report: EvaluationReport | None, merge: MergeRecord | None
) -> str:
    """Return the card of a whole model."""
    origin = f"`{lineage.base_name}`, all weights trained."
    if merge is not None:
        weights = (
            "the quantised weights that it was trained on"
            if merge.base == "dequantised"
            else "the original weights"
        )
        origin = (
            f"`{lineage.base_name}` with the adapter `{merge.adapter}` merged into {weights}. Log-probabilities "
            f"differ from the adapter's by at most {merge.largest_difference:.2g} on the held-out prompts of the proof."
        )
    parts = [
        _front_matter(lineage, "transformers"),
        f"# {name}\n\n{origin}",
        _results(report),
        _MODEL_USE,
        _origin(lineage),
    ]
    return _joined(parts)


def _front_matter(lineage: Lineage, library: str) -> str:
    # JSON strings are YAML strings: a name cannot break out of its line.
    return (
        f"---\nbase_model: {json.dumps(lineage.base_name)}\nlibrary_name: {library}\n"
        f"pipeline_tag: text-generation\ntags:\n- fettle\n- {lineage.method}\n---"
    )


def _results(report: EvaluationReport | None) -> str:
    if report is None or not report.tuned:
        return "## Results\n\nNot evaluated."
    base = report.base or {}
    rows = [
        f"| {name} | {base[name]:.4g} | {value:.4g} |"
        if name in base
        else f"| {name} | not measured | {value:.4g} |"
        for name, value in report.tuned.items()
    ]
    table = "\n".join(["| metric | base | tuned |", "|---|---|---|", *rows])
    return (
        f"## Results\n\nOn {report.rows} held-out rows; answers generated greedily for {report.samples} prompts, "
        f"the same for both.\n\n{table}"
    )


def _serving(note: Compatibility) -> str:
    if note.vllm.hot_loadable:
        return (
            f"## Serving\n\nvLLM can load it into a running server (`--max-lora-rank {note.vllm.max_lora_rank}` "
            "or more)."
        )
    obstacles = "\n".join(f"- {obstacle}" for obstacle in note.vllm.obstacles)
    return f"## Serving\n\nvLLM cannot load it as an adapter:\n{obstacles}"


def _origin(lineage: Lineage) -> str:
    parent = f"\n- went on from the adapter `{lineage.parent}`" if lineage.parent else ""
    versions = ", ".join(f"{name} {version}" for name, version in lineage.versions.items())
    return (
        f"## Origin\n\n- base model `{lineage.base_digest}`\n- dataset `{lineage.dataset_digest}`{parent}\n"
        f"- seed {lineage.seed}\n- {versions}\n\n"
        "`manifest.json` has all settings and the SHA-256 of every file; `python -m fettle_trainer verify --directory .` "
        "checks them."
    )


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
