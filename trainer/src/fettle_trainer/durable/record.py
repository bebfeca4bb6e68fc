"""`checkpoint.json`: what a checkpoint is made of and which run it belongs to, sealed against damage."""

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from fettle_trainer import strict_json
from fettle_trainer.config.adapter import Method
from fettle_trainer.config.base import ContractModel, Digest, RelativePath, Sha256Hex
from fettle_trainer.strict_json import StrictJsonError

RECORD_NAME: Final = "checkpoint.json"
_SEAL_KEY: Final = "seal"


class RunShape(ContractModel):
    """How a run is laid out, as far as a checkpoint depends on it."""

    run_digest: Digest
    """Over everything that decides the weights: model, data, method, seed, schedule. Not over how the work is split."""
    method: Method
    world_size: Annotated[int, Field(ge=1)]
    global_batch: Annotated[int, Field(ge=1)]
    micro_batch: Annotated[int, Field(ge=1)]
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """None without DeepSpeed: one process, or DDP."""


class CheckpointFacts(ContractModel):
    """What the next attempt has to know before it loads anything."""

    step: Annotated[int, Field(ge=0)]
    shape: RunShape
    save_seconds: Annotated[float, Field(ge=0)]
    training_complete: bool = False
    """True: what is left is evaluation and export."""
    evaluation_pending: bool = False
    """A signal cut the evaluation of this step off; it comes first when the run goes on."""
    best_step: Annotated[int, Field(ge=0)] | None = None
    """The step with the best validation loss so far; its checkpoint is kept."""


class RecordedFile(ContractModel):
    """One regular file of a checkpoint."""

    path: RelativePath
    sha256: Sha256Hex
    size_bytes: Annotated[int, Field(ge=0)]


class CheckpointRecord(ContractModel):
    """The whole of `checkpoint.json` but its seal."""

    schema_version: Literal[1] = 1
    facts: CheckpointFacts
    files: Annotated[tuple[RecordedFile, ...], Field(min_length=1)]


class DamagedRecordError(Exception):
    """`checkpoint.json` is not what was written; the message says why."""


def render_record(record: CheckpointRecord) -> bytes:
    """Return the file's bytes."""
    document = record.model_dump(mode="json", by_alias=True)
    return _text({**document, _SEAL_KEY: _seal(document)})


def parse_record(data: bytes) -> CheckpointRecord:
    """Return the record, proven to be the one that was written."""
    try:
        document = strict_json.loads(data)
    except StrictJsonError as error:
        msg = f"{RECORD_NAME} is no JSON ({error})"
        raise DamagedRecordError(msg) from error
    if not isinstance(document, dict):
        msg = f"{RECORD_NAME} is not a JSON object"
        raise DamagedRecordError(msg)
    content = {key: value for key, value in document.items() if key != _SEAL_KEY}
    if document.get(_SEAL_KEY) != _seal(content) or _text(document) != data:
        msg = f"the seal of {RECORD_NAME} does not fit its content"
        raise DamagedRecordError(msg)
    try:
        return CheckpointRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:4]))
        msg = f"{RECORD_NAME} was written by another release ({place}: {first['msg']})"
        raise DamagedRecordError(msg) from error


def _seal(document: dict[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(_text(document)).hexdigest()


def _text(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
