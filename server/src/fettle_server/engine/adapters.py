"""Which adapters are wanted, and how far each of them is.

The whole list is given each time. Reading and verifying happen in a thread of their own, one adapter after the other;
only putting into the model and taking out of it happens between two steps. An adapter that is wanted no more answers
what it has taken on, and then its memory is given back.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle_server.engine.refusal import Reason, RefusedAdapterError
from fettle_server.engine.request import Voice
from fettle_server.engine.stacked_lora import WeightsDoNotFitError
from fettle_server.engine.types import (
    AdapterSpec,
    AdapterState,
    RevisionNotReadyError,
    ShuttingDownError,
    State,
    UnknownRevisionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fettle_server.engine.adapter_files import AdapterFiles, AdapterReader
    from fettle_server.engine.step_loop import StepLoop
    from fettle_server.engine.waiting import Waiting

_LOG = logging.getLogger(__name__)

MIXED_LANE = ""
"""The lane of the base model and of all adapters that can be mixed."""


@dataclass(eq=False, slots=True)
class _Entry:
    spec: AdapterSpec
    name: str
    """In the model; never used twice, so that nothing of an earlier adapter is ever taken for this one's."""
    state: State = "Loading"
    reason: str = ""
    message: str = ""
    voice: Voice | None = None
    is_wanted: bool = True
    is_being_read: bool = False

    def refuse(self, reason: str, message: str) -> None:
        self.state, self.reason, self.message = "Refused", str(reason), message


class Adapters:
    """The adapters of one engine; all of its state is guarded by the lock of the waiting requests."""

    def __init__(
        self,
        base: Voice,
        reader: AdapterReader,
        steps: StepLoop,
        waiting: Waiting,
        most: int,
    ) -> None:
        self._base = base
        self._reader = reader
        self._model = steps.model
        self._steps = steps
        self._waiting = waiting
        self._most = most
        self._entries: dict[str, _Entry] = {}
        self._conflicts: list[AdapterState] = []
        self._named = 0
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fettle-adapters")

    def apply(self, wanted: Sequence[AdapterSpec]) -> list[AdapterState]:
        """Take over the list and return how far each adapter is; loading goes on beside serving."""
        with self._waiting.lock:
            self._conflicts = []
            digests = {spec.revision: spec.digest for spec in reversed(wanted)}
            for entry in tuple(self._entries.values()):
                if digests.get(entry.spec.revision) != entry.spec.digest:
                    self._want_no_more(entry)
            for spec in wanted:
                self._want(spec)
            self._steps.wake()
            return self.states()

    def states(self) -> list[AdapterState]:
        """Return where each adapter stands."""
        with self._waiting.lock:
            return [self._state(entry) for entry in self._entries.values()] + self._conflicts

    def voice(self, revision: str) -> Voice:
        """Return who answers for a revision, or raise why nobody does."""
        if revision == self._base.revision:
            return self._base
        with self._waiting.lock:
            entry = self._entries.get(revision)
            if entry is None:
                raise UnknownRevisionError(revision)
            if entry.state != "Ready" or entry.voice is None:
                raise RevisionNotReadyError(revision, entry.state)
            return entry.voice

    def known_voice(self, revision: str) -> Voice:
        """Return who answers for a revision, also for one that takes nothing new."""
        with self._waiting.lock:
            entry = self._entries.get(revision)
            return entry.voice if entry is not None and entry.voice is not None else self.voice(revision)

    @property
    def is_settled(self) -> bool:
        """Whether every wanted adapter is loaded, and has made a token, or is refused."""
        with self._waiting.lock:
            return all(entry.state != "Loading" for entry in self._entries.values())

    def tidy(self) -> None:
        """Take out what has answered all it took on; between two steps."""
        with self._waiting.lock:
            idle = [
                entry
                for entry in self._entries.values()
                if entry.state == "Draining" and not self._waiting.in_flight(entry.spec.revision)
            ]
            for entry in idle:
                del self._entries[entry.spec.revision]
        for entry in idle:
            self._model.bank.drop(entry.name)
            _LOG.info("Dropped %s (%s).", entry.spec.revision, entry.spec.digest)

    def stop(self) -> None:
        """Read no more adapters."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _want_no_more(self, entry: _Entry) -> None:
        entry.is_wanted = False
        if entry.state == "Ready":
            entry.state = "Draining"
        elif entry.state == "Refused":
            del self._entries[entry.spec.revision]

    def _want(self, spec: AdapterSpec) -> None:
        entry = self._entries.get(spec.revision)
        if spec.revision == self._base.revision:
            self._conflict(
                spec, f"{spec.revision} is the name of the base model. Give the adapter another one."
            )
        elif entry is None:
            self._begin(spec)
        elif entry.spec.digest != spec.digest:
            message = (
                f"{spec.revision} names the adapter {entry.spec.digest}, and a name never changes its meaning. Give the "
                "adapter another name, or ask again when the earlier one has gone."
            )
            self._conflict(spec, message)
        else:
            self._want_again(entry, spec)

    def _want_again(self, entry: _Entry, spec: AdapterSpec) -> None:
        entry.is_wanted = True
        entry.spec = spec
        if entry.state == "Draining":
            entry.state = "Ready"
        elif entry.state == "Refused" and not entry.is_being_read:
            # Its files may have been put right; it stays refused until they are found to be.
            self._read_soon(entry)

    def _conflict(self, spec: AdapterSpec, message: str) -> None:
        self._conflicts.append(
            AdapterState(spec.revision, spec.digest, "Refused", str(Reason.REVISION_TAKEN), message)
        )

    def _begin(self, spec: AdapterSpec) -> None:
        self._named += 1
        entry = self._entries[spec.revision] = _Entry(spec, f"fettle_{self._named}")
        self._read_soon(entry)

    def _read_soon(self, entry: _Entry) -> None:
        held = sum(other.state != "Refused" for other in self._entries.values() if other is not entry)
        if held >= self._most:
            entry.refuse(
                Reason.TOO_MANY_ADAPTERS,
                f"This server holds {held} adapters, as many as it may. Raise max_adapters, or ask again when one has gone.",
            )
            return
        entry.is_being_read = True
        self._readers.submit(self._load, entry)

    def _load(self, entry: _Entry) -> None:
        """Read an adapter and have it put into the model; in the readers' thread."""
        try:
            files = self._reader.read(entry.spec)
            self._steps.in_parts(self._put_in(entry, files)).result()
        except RefusedAdapterError as error:
            refusal = (error.reason, error.message)
        except ShuttingDownError:
            return
        except Exception:  # noqa: BLE001 - whatever it is, the other adapters are to be served
            _LOG.exception("Loading %s failed.", entry.spec.revision)
            refusal = (
                Reason.CHECK_FAILED,
                "Loading failed for a reason of the server's own; its log says more.",
            )
        else:
            _LOG.info("Loaded %s (%s).", entry.spec.revision, entry.spec.digest)
            return
        with self._waiting.lock:
            entry.is_being_read = False
            entry.refuse(*refusal)
            if not entry.is_wanted:
                self._entries.pop(entry.spec.revision, None)

    def _put_in(self, entry: _Entry, files: AdapterFiles) -> Iterator[None]:
        """Put an adapter into the model, a few modules between two steps, and let it make a token."""
        try:
            yield from self._model.bank.add(entry.name, files.config, files.tensors)
        except (WeightsDoNotFitError, ValueError, RuntimeError, KeyError) as error:
            raise RefusedAdapterError(
                Reason.WEIGHTS_DO_NOT_FIT,
                f"The adapter's weights do not fit the base model: {_first_line(error)}. Serve it on the base model "
                "that it was trained on.",
            ) from error
        logits = self._model.first_logits(files.text.encode("a") or [0], entry.name)
        if not bool(logits.isfinite().any()) or bool(logits.isnan().any()):
            self._model.bank.drop(entry.name)
            raise RefusedAdapterError(
                Reason.NOT_FINITE,
                "With this adapter the model gives no numbers. Train it again, or at higher precision.",
            )
        with self._waiting.lock:
            lane = MIXED_LANE if self._model.bank.mixes(entry.name) else entry.name
            entry.voice = Voice(entry.spec.revision, entry.name, lane, files.text)
            entry.is_being_read = False
            entry.state = "Ready" if entry.is_wanted else "Draining"
            entry.reason = entry.message = ""

    def _state(self, entry: _Entry) -> AdapterState:
        in_flight = self._waiting.in_flight(entry.spec.revision)
        return AdapterState(
            entry.spec.revision, entry.spec.digest, entry.state, entry.reason, entry.message, in_flight
        )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else type(error).__name__
