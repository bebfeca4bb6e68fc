"""The adapters that vLLM is to hold, and holds: brought together one step at a time, by one task.

vLLM has calls to load and to unload one adapter; the operator sends the full list. What is wanted and not held is
verified, loaded, and has to generate one token before it answers anybody; what is held and not wanted answers the
requests that it has, and no more, and is then unloaded. One bad adapter holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_server.engine.refusal import Reason, RefusedAdapterError
from fettle_server.engine.types import AdapterState, RevisionNotReadyError, UnknownRevisionError
from fettle_server.vllm.loadable import Target, loadable, lora_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fettle_server.engine.types import AdapterSpec, State
    from fettle_server.vllm.calls import Vllm
    from fettle_server.vllm.settings import LayerSettings

__all__ = ["VllmAdapters"]

_LOG: Final = logging.getLogger(__name__)

_LOAD_FAILED: Final = "LoadFailed"
_PASSING: Final = frozenset(
    {Reason.CHECK_FAILED, Reason.FILE_CHANGED, Reason.TOO_MANY_ADAPTERS, _LOAD_FAILED}
)
"""Refusals that may be over when the operator asks again."""


@dataclass(slots=True)
class _Held:
    """One adapter on its way in, in, or on its way out."""

    spec: AdapterSpec
    state: State = "Loading"
    reason: str = ""
    message: str = ""
    in_flight: int = 0
    target: Target | None = None
    loaded: bool = False
    """Whether it takes one of vLLM's places."""
    answered: bool = False
    """Whether it has generated a token."""

    @property
    def may_leave(self) -> bool:
        """Whether it is to go, and answers nobody."""
        return self.state == "Draining" and not self.in_flight

    def shown(self) -> AdapterState:
        """Return what the operator sees."""
        return AdapterState(
            self.spec.revision, self.spec.digest, self.state, self.reason, self.message, self.in_flight
        )


class VllmAdapters:
    """What vLLM holds; every change of it goes through here."""

    def __init__(self, vllm: Vllm, settings: LayerSettings) -> None:
        self._vllm = vllm
        self._settings = settings
        self._wanted: dict[str, AdapterSpec] = {}
        self._held: dict[str, _Held] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def adapters(self) -> list[AdapterState]:
        """Return where each adapter stands."""
        return [held.shown() for held in self._held.values()]

    @property
    def settled(self) -> bool:
        """Whether every wanted adapter answers, or was refused."""
        return all(
            (held := self._held.get(revision)) is not None
            and held.spec == spec
            and held.state in {"Ready", "Refused"}
            for revision, spec in self._wanted.items()
        )

    def apply(self, wanted: Sequence[AdapterSpec]) -> None:
        """Take the full list of what is to be held; return at once."""
        self._wanted = {spec.revision: spec for spec in wanted}
        for revision, held in list(self._held.items()):
            if held.spec != self._wanted.get(revision) or held.reason in _PASSING:
                self._let_go(held)
            elif held.state == "Draining":
                held.state = "Ready" if held.answered else "Loading"
        self._begin_wanted()
        self._work()

    @contextlib.contextmanager
    def claimed(self, revision: str) -> Iterator[Target]:
        """Keep an adapter from being unloaded while it answers."""
        held = self._held.get(revision)
        if held is None:
            raise UnknownRevisionError(revision)
        if held.state != "Ready" or held.target is None:
            raise RevisionNotReadyError(revision, held.state)
        held.in_flight += 1
        try:
            yield held.target
        finally:
            held.in_flight -= 1
            if held.may_leave:
                self._work()

    def stop(self) -> None:
        """End the work; vLLM itself is about to end."""
        if self._task is not None:
            self._task.cancel()

    def _let_go(self, held: _Held) -> None:
        """Let an adapter out at once, or when it is no longer in use."""
        held.state = "Draining"
        if not held.loaded:
            # Whoever loads it now finds that out and unloads it again.
            self._held.pop(held.spec.revision, None)

    def _begin_wanted(self) -> None:
        for number, (revision, spec) in enumerate(self._wanted.items(), start=1):
            if revision in self._held:
                continue
            held = self._held[revision] = _Held(spec)
            if number > self._settings.max_adapters:
                _refuse(
                    held,
                    Reason.TOO_MANY_ADAPTERS,
                    f"This server holds up to {self._settings.max_adapters} adapters. Raise maxAdapters, or ask for "
                    "fewer.",
                )

    def _work(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._settle(), name="vLLM's adapters")

    async def _settle(self) -> None:
        """Take one step after the other until there is none left."""
        while self._changed.is_set():
            self._changed.clear()
            while held := self._next():
                await (self._unload(held) if held.state == "Draining" else self._load(held))
                self._begin_wanted()

    def _next(self) -> _Held | None:
        """Return what can be done now: first what makes room."""
        unused = (held for held in self._held.values() if held.may_leave)
        if (held := next(unused, None)) is not None:
            return held
        if sum(held.loaded for held in self._held.values()) >= self._settings.max_adapters:
            return None
        return next((held for held in self._held.values() if held.state == "Loading"), None)

    async def _load(self, held: _Held) -> None:
        try:
            held.target = await asyncio.to_thread(loadable, held.spec, self._settings)
            await self._load_verified(held, held.target)
        except RefusedAdapterError as error:
            _refuse(held, error.reason, error.message)
        except Exception as error:  # noqa: BLE001 - one bad adapter must not end the work for all
            _LOG.exception("loading %s failed", held.spec.revision)
            held.loaded = False
            _refuse(held, _LOAD_FAILED, f"Loading failed: {error}. It is tried again with the next request.")
        if (
            self._wanted.get(held.spec.revision) != held.spec
            or self._held.get(held.spec.revision) is not held
        ):
            # It was let go while it was on its way in.
            await self._unload(held)

    async def _load_verified(self, held: _Held, target: Target) -> None:
        held.loaded = True
        answer = await self._vllm.load(target.lora_name, str(target.folder))
        if not answer.ok and target.lora_name not in await self._vllm.names():
            held.loaded = False
            hint = (
                " vLLM must run with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True." if answer.status == 404 else ""
            )
            raise RefusedAdapterError(_LOAD_FAILED, f"vLLM did not load it: {answer.said}{hint}")
        token = await self._vllm.one_token(target.lora_name)
        if not token.ok:
            await self._vllm.unload(target.lora_name)
            held.loaded = False
            raise RefusedAdapterError(_LOAD_FAILED, f"It was loaded but did not answer: {token.said}")
        held.answered = True
        if held.state == "Loading":
            held.state = "Ready"

    async def _unload(self, held: _Held) -> None:
        if self._held.get(held.spec.revision) is held:
            del self._held[held.spec.revision]
        if held.loaded:
            held.loaded = False
            answer = await self._vllm.unload(lora_name(held.spec))
            if answer.status not in {200, 404}:
                # Nobody can ask for it any more, and vLLM replaces what is not used.
                _LOG.warning("vLLM did not unload %s: %s", lora_name(held.spec), answer.said)


def _refuse(held: _Held, reason: str, message: str) -> None:
    held.state, held.reason, held.message = "Refused", str(reason), message
