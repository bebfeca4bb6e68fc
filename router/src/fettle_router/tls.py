"""The certificate of a mounted `kubernetes.io/tls` Secret, in the one file that HAProxy wants."""

import hashlib
from pathlib import Path

from fettle_router.errors import InvalidConfiguration
from fettle_router.files import write_atomically

__all__ = ["combine"]


def combine(secret: Path, directory: Path) -> Path:
    """Write certificate and key into a file that is named after them, and return it."""
    try:
        pem = "".join(
            (secret / name).read_text(encoding="ascii").strip() + "\n" for name in ("tls.crt", "tls.key")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{secret}: the certificate cannot be read: {error}") from error
    combined = directory / f"tls-{hashlib.sha256(pem.encode()).hexdigest()[:16]}.pem"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(combined, pem)
    return combined
