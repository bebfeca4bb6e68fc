"""What the operator said of an adapter, held against what lies on the disk; the same for every engine. Torch-free."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fettle_server.engine.refusal import Reason, RefusedAdapterError
from fettle_trainer.adapter.errors import AdapterRefusedError, FileChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_server.engine.types import AdapterSpec
    from fettle_trainer.config.verification import VerifiedAdapter

__all__ = ["refusing", "require_adapter", "require_base", "require_digest", "require_plain_base"]


@contextmanager
def refusing(spec: AdapterSpec) -> Iterator[None]:
    """Tell what goes wrong with an adapter's files as a refusal of this adapter."""
    try:
        yield
    except AdapterRefusedError as error:
        raise RefusedAdapterError(error.code, error.message) from error
    except FileChangedError as error:
        raise RefusedAdapterError(Reason.FILE_CHANGED, str(error)) from error
    except OSError as error:
        message = f"{spec.path} cannot be read: {error.strerror or error}."
        raise RefusedAdapterError(Reason.CHECK_FAILED, message) from error


def require_digest(spec: AdapterSpec, found: VerifiedAdapter) -> None:
    """Refuse other files than those that were asked for."""
    if found.digest != spec.digest:
        raise RefusedAdapterError(
            Reason.DIGEST_MISMATCH,
            f"{spec.path} holds the adapter {found.digest}, not {spec.digest}. Name the folder of that digest.",
        )


def require_adapter(spec: AdapterSpec, found: VerifiedAdapter) -> None:
    """Refuse a whole model."""
    if found.artefact != "adapter":
        raise RefusedAdapterError(
            Reason.NOT_AN_ADAPTER,
            f"{spec.path} holds a whole model. Serve it as the base model of a server of its own.",
        )


def require_base(found: VerifiedAdapter, digest: str) -> None:
    """Refuse an adapter that is known to have been trained on another base."""
    if found.base_model_digest and found.base_model_digest != digest:
        raise RefusedAdapterError(
            Reason.BASE_MISMATCH,
            f"The adapter was trained on {found.base_model} with the digest {found.base_model_digest}; this server's "
            f"base model has {digest}. On another base its weights mean nothing; serve it on its own.",
        )


def require_plain_base(found: VerifiedAdapter, way_out: str) -> None:
    """Refuse an adapter that corrects the errors of a quantised base."""
    if found.method == "qlora":
        raise RefusedAdapterError(
            Reason.QUANTISED_BASE,
            "The adapter was trained on the base model quantised to 4 bits (qlora), and corrects that model's errors; "
            f"this server's base is not quantised, so answers would differ from those measured. {way_out}",
        )
