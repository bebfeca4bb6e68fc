"""Everything that can be known of a whole model's directory without its manifest.

A merged model, or one trained with method full: config.json, and safetensors in one file or in shards that an index
names. As strict as with adapters: structure, names, finite numbers, every byte hashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer import strict_json
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.inspect import Contents, records_with, refuse_code, refuse_remote_code
from fettle_trainer.adapter.peft_config import CONFIG_NAME as ADAPTER_CONFIG_NAME
from fettle_trainer.adapter.weights import TensorFile, read_tensorfile
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import StrictJsonError, shown

if TYPE_CHECKING:
    from fettle_trainer.adapter.directory import AdapterDirectory
    from fettle_trainer.adapter.tensorfile import Tensor

CONFIG_NAME: Final = "config.json"
WEIGHTS_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"
_SUFFIX: Final = ".safetensors"
_MAX_JSON_BYTES: Final = 32 * 2**20


@dataclass(frozen=True)
class InspectedModel(Contents):
    """The facts of a whole model whose own files are sound."""

    tensor_count: int


def inspect_model(directory: AdapterDirectory) -> InspectedModel:
    """Read every file once; the first thing that is wrong is raised as AdapterRefusedError."""
    refuse_code(directory)
    if ADAPTER_CONFIG_NAME in directory:
        raise AdapterRefusedError(
            RefusalCode.MANIFEST_MISMATCH,
            f"The manifest says that this is a whole model, but {ADAPTER_CONFIG_NAME} is an adapter's.",
            ADAPTER_CONFIG_NAME,
        )
    if CONFIG_NAME not in directory:
        raise AdapterRefusedError(RefusalCode.CONFIG_MISSING, f"{CONFIG_NAME} is missing.", CONFIG_NAME)
    refuse_remote_code(directory)
    files = [read_tensorfile(directory, path, _check_names(path)) for path in _shards(directory)]
    _check_weights(directory, files)
    return InspectedModel(
        records=records_with(directory, {file.record.path: file.record for file in files}),
        tensor_count=sum(len(file.tensors) for file in files),
    )


def _shards(directory: AdapterDirectory) -> list[str]:
    shards = [path for path in directory.entries if path.endswith(_SUFFIX)]
    if not shards:
        raise AdapterRefusedError(
            RefusalCode.WEIGHTS_MISSING, f"There is no {WEIGHTS_NAME}, nor shards of it.", WEIGHTS_NAME
        )
    return shards


def _check_names(path: str) -> Any:
    def check(tensors: list[Tensor]) -> None:
        if not tensors:
            raise AdapterRefusedError(RefusalCode.WEIGHTS_EMPTY, f"{path} holds no tensor.", path)
        for tensor in tensors:
            if 0 in tensor.shape:
                raise AdapterRefusedError(
                    RefusalCode.WEIGHTS_EMPTY,
                    f"Tensor {shown(tensor.name)} of {path} is empty; a model saved under ZeRO-3 without gathering "
                    "its shards looks like this. Save it again.",
                    path,
                )

    return check


def _check_weights(directory: AdapterDirectory, files: list[TensorFile]) -> None:
    """Refuse shards that disagree with the index; without one there is a single file."""
    found = {tensor.name: file.record.path for file in files for tensor in file.tensors}
    if sum(len(file.tensors) for file in files) != len(found):
        raise _mismatch("a tensor stands in two shards", INDEX_NAME)
    if INDEX_NAME not in directory:
        if [file.record.path for file in files] != [WEIGHTS_NAME]:
            raise _mismatch(
                f"without {INDEX_NAME} there must be {WEIGHTS_NAME} and no other shard", INDEX_NAME
            )
        return
    expected = _weight_map(directory)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise _mismatch(
                f"the index puts tensor {shown(name)} into {shown(str(expected.get(name, 'no file')))}, it stands in "
                f"{found.get(name, 'none')}",
                INDEX_NAME,
            )


def _weight_map(directory: AdapterDirectory) -> dict[str, Any]:
    try:
        document = strict_json.loads(directory.read(INDEX_NAME, _MAX_JSON_BYTES))
    except StrictJsonError as error:
        raise AdapterRefusedError(
            RefusalCode.CONFIG_INVALID, f"{INDEX_NAME} is no JSON ({error}).", INDEX_NAME
        ) from error
    shards = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(shards, dict):
        raise AdapterRefusedError(RefusalCode.CONFIG_INVALID, f"{INDEX_NAME} has no weight_map.", INDEX_NAME)
    return shards


def _mismatch(problem: str, file: str) -> AdapterRefusedError:
    return AdapterRefusedError(
        RefusalCode.WEIGHTS_MISMATCH,
        f"The model's weights are not whole: {problem}. All files must come from the same save.",
        file,
    )
