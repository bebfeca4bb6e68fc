"""Release folders for the tests of the model server: adapters on tiny models, saved by PEFT and sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from fettle_server.engine.types import AdapterSpec
from fettle_trainer.adapter.manifest_file import render_manifest
from fettle_trainer.adapter.model_folder import folder_digest
from fettle_trainer.adapter.seal import Provenance, seal_adapter
from fettle_trainer.export.artefact import write_companions
from fettle_trainer.text.tokenizer import load_tokenizer


class Release(NamedTuple):
    """An adapter that a run could have released."""

    folder: Path
    digest: str

    def spec(self, revision: str) -> AdapterSpec:
        """Ask for it under a name; the adapters' root is the folder above."""
        return AdapterSpec(revision, self.digest, self.folder.name)


def release(base: Path, root: Path, name: str, *, seed: int = 1, **lora: Any) -> Release:
    """Write and seal an adapter whose weights all differ from zero, so that it changes every answer."""
    folder = root / name
    options: dict[str, Any] = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"} | lora
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", **options)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.15)
    # Embeddings are never resized here, and "auto" would ask the hub what the base looks like.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink()
    write_companions(base, load_tokenizer(base), folder)
    return sealed(folder, folder_digest(base))


def sealed(folder: Path, base_digest: str | None = None, **facts: Any) -> Release:
    """Seal a folder as it is now; `facts` replace what the manifest says."""
    manifest = seal_adapter(
        folder, Provenance(base_model="tiny/base", base_model_digest=base_digest), replace=True
    )
    if facts:
        (folder / "manifest.json").write_bytes(render_manifest(manifest.model_copy(update=facts)))
    return Release(folder, manifest.digest)
