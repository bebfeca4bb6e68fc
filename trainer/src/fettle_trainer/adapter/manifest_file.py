"""`manifest.json` as bytes: one canonical text per manifest, sealed by a digest over itself.

The manifest says what every other file must be; the seal says what the manifest must be. Together they leave no
byte of an adapter directory that could be damaged unnoticed. They protect against accidents, not against somebody
who rewrites both: what an Adapter resource pins is the digest in its spec.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from pydantic import ValidationError

from fettle_trainer import strict_json
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.config.manifest import MANIFEST_NAME, Manifest
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import StrictJsonError

MAX_MANIFEST_BYTES: Final = 4 * 2**20
_SEAL_KEY: Final = "seal"


def render_manifest(manifest: Manifest) -> bytes:
    """Return the file's bytes."""
    document = manifest.model_dump(mode="json", by_alias=True)
    return _text({**document, _SEAL_KEY: _seal(document)})


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest, proven to be the one that was written."""
    try:
        document = strict_json.loads(data)
    except StrictJsonError as error:
        raise _invalid(f"it is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise _invalid("it is not a JSON object")
    if document.get("schemaVersion") != 1:
        raise _invalid("its schemaVersion is not 1; it was written by another release")
    content = {key: value for key, value in document.items() if key != _SEAL_KEY}
    if document.get(_SEAL_KEY) != _seal(content) or _text(document) != data:
        raise _invalid("its seal does not fit its content: it was damaged or edited by hand")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)[:4]
        fields = "; ".join(
            f"{'.'.join(map(str, problem['loc'][:4]))}: {problem['msg']}" for problem in problems
        )
        raise _invalid(fields) from error


def _seal(document: dict[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(_text(document)).hexdigest()


def _text(document: dict[str, Any]) -> bytes:
    # ensure_ascii: a lone surrogate, which JSON can escape, has no UTF-8 form.
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _invalid(problem: str) -> AdapterRefusedError:
    return AdapterRefusedError(
        RefusalCode.MANIFEST_INVALID,
        f"{MANIFEST_NAME} is not valid: {problem}. Write it with `python -m fettle_trainer seal`.",
        MANIFEST_NAME,
    )
