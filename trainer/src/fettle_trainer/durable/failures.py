"""What an exception means to the run: out of memory, a full disk, a peer that is gone, or something unforeseen."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from fettle_trainer.errors import IncompleteError, MemoryExhaustedError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.durable.checkpoints import CheckpointStore

_MEMORY_WORDS: Final = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
)
_FULL_WORDS: Final = ("no space left", "disk quota", "file too large")
_WRITE_WORDS: Final = (*_FULL_WORDS, "inline_container")
"""The last is where torch writes its files; it does not say why it could not."""
_PEER_WORDS: Final = (
    "connection closed by peer",
    "connection closed by remote peer",
    "connection reset by peer",
    "connection was likely closed",
    "remote process exit",
    "timed out waiting",
    "socket timeout",
    "broken pipe",
)
"""As gloo, NCCL and torch's store of the ranks say it."""
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_STORAGE_FULL: Final = "StorageFull"


def is_storage_full(error: BaseException) -> bool:
    """Whether a volume has no room, or a quota is used up; libraries in Rust and C++ say so in words."""
    if isinstance(error, RunError):
        return False  # whoever raised it knew better
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_SPACE
    return any(word in str(error).lower() for word in _FULL_WORDS)


def storage_full(error: BaseException) -> IncompleteError:
    """Return the error with what to do, for a write that found no room."""
    where = f" {error.filename}" if isinstance(error, OSError) and error.filename else ""
    return IncompleteError(
        _STORAGE_FULL,
        f"The store is full: no space is left, or a quota is used up; it could not write{where}. Give it more space;"
        " the next attempt goes on from the newest checkpoint.",
        "output.directory",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the host; torch says so in a type on GPUs and in words on CPUs."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def is_lost_peer(error: BaseException) -> bool:
    """Whether the error only says that another rank is gone: that rank knows why."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _PEER_WORDS)


def lost_peer() -> IncompleteError:
    """Return the error of a rank that cannot go on without another one, with where the reason stands."""
    return IncompleteError(
        "RankLost",
        "Another rank ended first or no longer answers, and this one cannot go on without it. The reason stands in"
        " that rank's own output, in the log of its pod or its node; torchrun names the first rank that failed at the"
        " end of its own. The next attempt goes on from the newest checkpoint.",
    )


def out_of_memory(micro_batch_size: int) -> MemoryExhaustedError:
    """Return the error with the advice for the next attempt."""
    if micro_batch_size > 1:
        half = micro_batch_size // 2
        advice = f"Set training.microBatchSize to {half}; the global batch stays what it is."
        return MemoryExhaustedError(
            "OutOfMemory",
            f"A micro-batch of {micro_batch_size} rows does not fit into memory. {advice}",
            "training.microBatchSize",
        )
    return MemoryExhaustedError(
        "OutOfMemory",
        "Not even one row fits into memory. Lower training.maxLength, choose method qlora, or spread the model"
        " with distributed.zero.",
        "training.maxLength",
    )


def save_failure(error: BaseException, store: CheckpointStore, step: int) -> RunError | None:
    """Return the error for a checkpoint that could not be written, or None if it failed for another reason."""
    if isinstance(error, RunError) or is_out_of_memory(error) or is_lost_peer(error):
        return None
    if not _is_write_error(error):
        return None
    last = store.newest_step()
    remains = "there is no earlier one" if last is None else f"checkpoint-{last} is untouched"
    return IncompleteError(
        _STORAGE_FULL if _is_for_want_of_space(error) else "CheckpointNotSaved",
        f"The checkpoint of step {step} could not be written to {store.folder}: {_reason(error, store.folder)}."
        f" Give it more space and run again; {remains}.",
        "output.workDirectory",
    )


def _is_write_error(error: BaseException) -> bool:
    return isinstance(error, OSError) or any(word in str(error).lower() for word in _WRITE_WORDS)


def _is_for_want_of_space(error: BaseException) -> bool:
    # torch does not say why a write of its own failed; with a volume that still answers it is hardly anything else.
    return is_storage_full(error) or not isinstance(error, OSError)


def _reason(error: BaseException, folder: Path) -> str:
    if isinstance(error, OSError) and not _is_for_want_of_space(error):
        return error.strerror or type(error).__name__
    try:
        status = os.statvfs(folder)
    except OSError:
        return "no space is left"
    free = status.f_bavail * status.f_frsize // 2**20
    return f"no space is left, or a quota is used up ({free} MiB are free on the volume)"
