"""An adapter's files, verified and in memory: all that loading needs, so that putting it into the model reads nothing.

What is verified and what is used are the same bytes: each file is read once more after the verification and held to
the digest found there, so that a file swapped in between is noticed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import torch
from safetensors.torch import load as load_tensors

from fettle_server.engine.adapter_config import MERGE, served_config
from fettle_server.engine.promises import (
    refusing,
    require_adapter,
    require_base,
    require_digest,
    require_plain_base,
)
from fettle_server.engine.refusal import Reason, RefusedAdapterError
from fettle_server.engine.text_side import TextSide, load_text_side
from fettle_server.engine.types import BaseRefusedError
from fettle_trainer import strict_json
from fettle_trainer.adapter.directory import open_adapter_directory
from fettle_trainer.adapter.errors import FileChangedError
from fettle_trainer.adapter.layout import WEIGHTS_NAME
from fettle_trainer.adapter.peft_config import CONFIG_NAME
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peft import LoraConfig

    from fettle_server.engine.base_model import BaseModel
    from fettle_server.engine.types import AdapterSpec
    from fettle_trainer.config.verification import VerifiedAdapter

_TOKENIZERS: Final = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json"})
_LARGE: Final = frozenset({WEIGHTS_NAME, MANIFEST_NAME})
_HALVES: Final = frozenset({torch.float16, torch.bfloat16})


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter that is ready to be put into the model."""

    config: LoraConfig
    tensors: Mapping[str, torch.Tensor]
    text: TextSide


@dataclass(frozen=True)
class AdapterReader:
    """Reads adapters for one base model."""

    root: Path
    base: BaseModel
    base_text: TextSide
    max_rank: int

    def read(self, spec: AdapterSpec) -> AdapterFiles:
        """Return the adapter; raise RefusedAdapterError with the reason and the way out."""
        folder = self._folder(spec)
        with refusing(spec):
            found = verify_adapter(folder)
            self._check_facts(spec, found)
            files = _read_all(folder, found)
        tensors = {name: self._placed(tensor) for name, tensor in load_tensors(files[WEIGHTS_NAME]).items()}
        config = served_config(strict_json.loads(files[CONFIG_NAME]), tensors)
        return AdapterFiles(config, tensors, self._text(files, found))

    def _folder(self, spec: AdapterSpec) -> Path:
        path = PurePosixPath(spec.path)
        if path.is_absolute() or ".." in path.parts or path == PurePosixPath():
            raise RefusedAdapterError(
                Reason.PATH_INVALID,
                f"The path {spec.path!r} does not lead to a folder below the adapters' root. Name the release folder "
                "relative to it.",
            )
        return self.root.resolve() / path

    def _check_facts(self, spec: AdapterSpec, found: VerifiedAdapter) -> None:
        require_digest(spec, found)
        require_adapter(spec, found)
        require_base(found, self.base.digest)
        require_plain_base(found, MERGE)
        if found.rank is not None and found.rank > self.max_rank:
            raise RefusedAdapterError(
                Reason.RANK_TOO_LARGE,
                f"The adapter has rank {found.rank}; this server takes up to {self.max_rank}. Raise max_lora_rank, or "
                f"take the other way: {MERGE[0].lower()}{MERGE[1:]}",
            )

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        # As PEFT does when it loads an adapter: half precision is for the base model only.
        wanted = torch.float32 if tensor.dtype in _HALVES else tensor.dtype
        return tensor.to(device=self.base.device, dtype=wanted)

    def _text(self, files: Mapping[str, bytes], found: VerifiedAdapter) -> TextSide:
        """Load the adapter's own tokenizer and template; an adapter made elsewhere may come without, and has the base's."""
        if not _TOKENIZERS & files.keys():
            return self.base_text
        with TemporaryDirectory(prefix="fettle-tokenizer-") as name:
            folder = Path(name)
            for path, content in files.items():
                if path not in _LARGE and "/" not in path:
                    (folder / path).write_bytes(content)
            try:
                text = load_text_side(folder, self.base.stop_ids)
            except BaseRefusedError as error:
                message = str(error).replace(name, "the adapter's folder")
                raise RefusedAdapterError(Reason.TOKENIZER_INVALID, message) from error
        if found.template_hash not in {None, text.template_digest}:
            raise RefusedAdapterError(
                Reason.TOKENIZER_INVALID,
                f"The tokenizer uses another chat template than chat_template.jinja, whose digest is {found.template_hash}.",
            )
        return text


def _read_all(folder: Path, found: VerifiedAdapter) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with open_adapter_directory(folder) as directory:
        for record in found.files:
            if record.path not in directory:
                raise FileChangedError(record.path)
            content = directory.read(record.path, record.size_bytes)
            if hashlib.sha256(content).hexdigest() != record.sha256:
                raise FileChangedError(record.path)
            files[record.path] = content
    return files
