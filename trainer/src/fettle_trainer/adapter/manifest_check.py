"""Does an adapter, or a whole model, agree with its manifest? File by file, then fact by fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.inspect import TEMPLATE_NAME
from fettle_trainer.config.manifest import MANIFEST_NAME
from fettle_trainer.config.verification import RefusalCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_trainer.adapter.inspect import Contents, InspectedAdapter
    from fettle_trainer.config.manifest import Manifest


def check_listing(manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """Refuse missing, surplus and wrongly sized files; cheap, so it comes before anything is read."""
    recorded = {record.path: record.size_bytes for record in manifest.files}
    if len(recorded) != len(manifest.files) or MANIFEST_NAME in recorded:
        raise _refused(
            RefusalCode.MANIFEST_INVALID, f"{MANIFEST_NAME} lists a file twice, or itself.", MANIFEST_NAME
        )
    for path in sorted(recorded.keys() | (sizes.keys() - {MANIFEST_NAME})):
        if path not in sizes:
            raise _refused(
                RefusalCode.FILE_MISSING, f"{path} is in the manifest but not there. Copy it again.", path
            )
        if path not in recorded:
            raise _refused(
                RefusalCode.FILE_UNEXPECTED,
                f"{path} is not in the manifest. Remove it, or seal the directory again if it belongs there.",
                path,
            )
        if sizes[path] != recorded[path]:
            raise _refused(
                RefusalCode.DIGEST_MISMATCH,
                f"{path} has {sizes[path]} bytes, the manifest says {recorded[path]}. Copy it again.",
                path,
            )


def check_content(manifest: Manifest, contents: Contents) -> None:
    """Refuse files whose bytes are not those that the manifest lists."""
    recorded = {record.path: record.sha256 for record in manifest.files}
    for record in contents.records:
        if recorded[record.path] != record.sha256:
            raise _refused(
                RefusalCode.DIGEST_MISMATCH,
                f"{record.path} has the SHA-256 {record.sha256}, the manifest says {recorded[record.path]}. "
                "The file was damaged or replaced; copy it again.",
                record.path,
            )
    if manifest.digest != contents.digest:
        raise _refused(
            RefusalCode.DIGEST_MISMATCH,
            f"The adapter's digest is {contents.digest}, the manifest says {manifest.digest}.",
            MANIFEST_NAME,
        )
    _check_template(manifest, contents)


def _check_template(manifest: Manifest, contents: Contents) -> None:
    if manifest.template_hash is not None and manifest.template_hash != contents.template_hash:
        raise _refused(
            RefusalCode.TEMPLATE_MISMATCH,
            f"{TEMPLATE_NAME} has the digest {contents.template_hash or 'of no file'}, the manifest says "
            f"{manifest.template_hash}. Prompts would be rendered in another way than in training.",
            TEMPLATE_NAME,
        )


def check_facts(manifest: Manifest, adapter: InspectedAdapter) -> None:
    """Refuse statements whose values are not those of the adapter."""
    # A quantised base is the trainer's affair: the files of a qlora adapter are those of a lora adapter.
    method = "lora" if manifest.method == "qlora" else manifest.method
    facts = {
        "method": (method, adapter.config.method),
        "rank": (manifest.rank, adapter.weights.layout.rank),
        "alpha": (manifest.alpha, adapter.config.lora_alpha),
        "targetModules": (sorted(manifest.target_modules), sorted(adapter.weights.layout.target_modules)),
    }
    for name, (said, found) in facts.items():
        if said != found:
            raise _refused(
                RefusalCode.MANIFEST_MISMATCH,
                f"{MANIFEST_NAME} says {name} {said}, the adapter's files say {found}.",
                MANIFEST_NAME,
            )


def _refused(code: RefusalCode, message: str, file: str) -> AdapterRefusedError:
    return AdapterRefusedError(code, message, file)
