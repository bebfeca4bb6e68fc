"""Pairs of answers in a folder: JSON lines, one file per hour, which goes when its time is over.

A file's name says when it expires, so that a server that was down, or was told to keep no more pairs, still knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fettle_server.layer.facts import RequestFacts
    from fettle_server.shadow import PairSettings

__all__ = ["PairStore"]

_HOUR: Final = 3_600
_MEBIBYTE: Final = 2**20


class PairStore:
    """The one writer of a folder of pairs."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def keep(
        self, path: str, body: bytes, main: RequestFacts, shadow: RequestFacts, settings: PairSettings
    ) -> None:
        """Write one pair, without holding up the loop."""
        record = {
            "at": int(self._clock()),
            "id": main.response_id,
            "request": _request(path, body, keep=settings.keep_prompts),
            "main": _answer(main),
            "shadow": _answer(shadow),
        }
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        async with self._one_at_a_time:
            await asyncio.to_thread(self._append, line, settings)

    async def sweep(self) -> None:
        """Remove what has expired."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._remove_expired)

    def _append(self, line: bytes, settings: PairSettings) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_expired()
        hour = int(self._clock()) // _HOUR
        name = f"pairs-{hour * _HOUR}-{(hour + 1 + settings.ttl_hours) * _HOUR}.jsonl"
        if not self._made_room(len(line), settings.max_mebibytes * _MEBIBYTE, name):
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self._folder / name, flags, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line)

    def _made_room(self, size: int, limit: int, current: str) -> bool:
        files = self._files()
        total = sum(file.stat().st_size for file in files) + size
        for file in files:
            if total <= limit:
                break
            if file.name != current:
                total -= file.stat().st_size
                file.unlink()
        return total <= limit

    def _remove_expired(self) -> None:
        for file in self._files():
            if _expires_at(file) <= self._clock():
                file.unlink()

    def _files(self) -> list[Path]:
        """Return our files, the oldest first."""
        found = [file for file in self._folder.glob("pairs-*-*.jsonl") if _expires_at(file) > 0]
        return sorted(found, key=lambda file: file.name)


def _expires_at(file: Path) -> int:
    """Read a file's time out of its name; 0 for a file that is not ours."""
    end = file.stem.rpartition("-")[2]
    return int(end) if end.isdecimal() else 0


def _request(path: str, body: bytes, *, keep: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "path": path,
        "sha256": hashlib.sha256(body).hexdigest(),
        "bytes": len(body),
    }
    if keep:
        facts["body"] = json.loads(body)
    return facts


def _answer(facts: RequestFacts) -> dict[str, Any]:
    return {
        "revision": facts.revision,
        "tokensIn": facts.tokens_in,
        "tokensOut": facts.tokens_out,
        "choices": [
            {"index": index, "text": choice.text, "clipped": choice.clipped, "finish": choice.finish}
            for index, choice in sorted(facts.choices.items())
        ],
    }
