"""The thread that generates: one step after the other, as long as there is work.

A step lets requests in, reads at most one batch of their prompts, and makes one token for every answering row. Rows
therefore join and leave between any two tokens, and a running answer never waits for more than one batch of prompts.
Changes to the adapters run between steps, so that nothing in the model moves under a forward.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fettle_server.engine.lane import Lane
from fettle_server.engine.request import Delivery
from fettle_server.engine.row import Row
from fettle_server.engine.sampling import choose
from fettle_server.engine.types import DroppedError, GenerationFailedError, ShuttingDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fettle_server.engine.batch_model import BatchModel
    from fettle_server.engine.request import Request
    from fettle_server.engine.waiting import Waiting

_LOG = logging.getLogger(__name__)

_Batch = list[tuple[Row, list[int]]]
_MOMENT_S = 0.02
"""How long a job may hold the next step up, which is about what a step takes on a fast machine."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is done at a time."""

    rows: int
    cells: int
    """Tokens of the cache, all lanes together."""
    prompt_tokens: int


class StepLoop:
    """All rows, and the thread that moves them on."""

    def __init__(self, model: BatchModel, waiting: Waiting, bounds: Bounds) -> None:
        self.error: BaseException | None = None
        """What ended the thread before its time."""
        self.between_steps: Callable[[], None] = lambda: None
        """Called between any two steps."""
        self.model = model
        self._waiting = waiting
        self._bounds = bounds
        self._lanes: dict[str, Lane] = {}
        self._without_slot: dict[Request, Row] = {}
        self._delivery = Delivery()
        self._jobs: deque[tuple[Iterator[None], Future[None]]] = deque()
        self._end: float | None = None
        self._is_woken = False
        """Whether something has changed since this step began."""
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="fettle-steps", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Finish what was taken on within so many seconds, cut what is left, and end the thread."""
        self._waiting.close()
        self._end = time.monotonic() + drain_s
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Look again whether there is something to do."""
        with self._waiting.lock:
            self._is_woken = True
            self._waiting.arrived.notify()

    def in_parts(self, job: Iterator[None]) -> Future[None]:
        """Run a job between steps, only as much of it at a time as a running answer does not notice."""
        future: Future[None] = Future()
        with self._waiting.lock:
            if not self._is_over:
                self._jobs.append((job, future))
                self._waiting.arrived.notify()
            else:
                future.set_exception(ShuttingDownError())
        return future

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(len(lane.rows) for lane in tuple(self._lanes.values()))

    @property
    def tokens(self) -> int:
        """How many tokens the cache holds."""
        return sum(row.cached for lane in tuple(self._lanes.values()) for row in tuple(lane.rows))

    def _run(self) -> None:
        try:
            while self._goes_on():
                self._do_jobs()
                self.between_steps()
                self._remove_cancelled()
                self._let_in()
                if self._lanes:
                    self._step()
                else:
                    self._rest()
        except BaseException as error:  # noqa: BLE001 - whatever it is, health has to tell
            _LOG.critical("The thread of the steps has ended; no answer can be generated.", exc_info=error)
            self.error = error
        self._cut()

    def _goes_on(self) -> bool:
        """Say whether there is another step; whatever changes from here on is seen after it."""
        self._is_woken = False
        if self._end is None:
            return True
        is_idle = not self._lanes and not len(self._waiting)
        return not is_idle and time.monotonic() < self._end

    def _do_jobs(self) -> None:
        """Go on with what is to be done between steps, for a moment."""
        end = time.monotonic() + _MOMENT_S
        while self._jobs:
            job, future = self._jobs[0]
            try:
                next(job)
            except StopIteration:
                self._jobs.popleft()
                future.set_result(None)
            except Exception as error:  # noqa: BLE001 - it belongs to who asked for the job
                self._jobs.popleft()
                future.set_exception(error)
            if time.monotonic() >= end:
                return

    def _rest(self) -> None:
        with self._waiting.lock:
            # Who is told to end looks again instead: the last row may have gone since it was looked.
            is_ending = self._end is not None
            if not (self._is_woken or self._jobs or is_ending) and self._waiting.next() is None:
                self._waiting.arrived.wait()

    def _let_in(self) -> None:
        with self._waiting.lock:
            while (request := self._waiting.next()) is not None:
                if not self._has_room(request):
                    if request.priority == "shadow" or not self._drop_a_shadow():
                        return
                    continue
                self._waiting.let_in(request)
                lane = self._lanes.get(request.voice.lane) or Lane(self.model)
                paused = self._without_slot.pop(request, None)
                lane.add(Row(request) if paused is None else paused)
                self._lanes[request.voice.lane] = lane

    def _has_room(self, request: Request) -> bool:
        if not self._lanes:
            return True
        if self.rows >= self._bounds.rows:
            return False
        paused = self._without_slot.get(request)
        tokens = len(paused.tokens if paused else request.prompt) + 1
        lane = self._lanes.get(request.voice.lane)
        more = tokens if lane is None else lane.cells_with(1, tokens) - lane.cells
        return self._cells() + more <= self._bounds.cells

    def _cells(self) -> int:
        return sum(lane.cells for lane in self._lanes.values())

    def _step(self) -> None:
        reading = [(lane.rows[lane.answering].request.number, name, lane) for name, lane in self._lanes.items()
                   if lane.answering < len(lane.rows)]  # fmt: skip
        if reading:
            lane = min(reading)[2]
            self._advance(lane, lane.answering, lane.next_prompts(self._bounds.prompt_tokens))
        for lane in tuple(self._lanes.values()):
            self._make_cells()
            if lane.answering:
                batch = [(row, row.tokens[-1:]) for row in lane.rows[: lane.answering]]
                self._advance(lane, 0, batch)

    def _advance(self, lane: Lane, first: int, batch: _Batch) -> None:
        """Move rows on by one forward, send what came of it, and free the slots of those that are through."""
        others = self._cells() - lane.cells
        lane.reserve(self._bounds.cells - others)
        self._forward(lane, first, batch)
        self._remove(lane, {row for row, _ in batch if row.is_over}, is_finished=True)
        self._delivery.send()

    def _forward(self, lane: Lane, first: int, batch: _Batch) -> None:
        """Run one forward; if it fails, run its halves, until the failure is that of one row."""
        try:
            logits = lane.forward(first, batch)
            ready = [
                place for place, (row, new) in enumerate(batch) if row.cached + len(new) == len(row.tokens)
            ]
            choices = choose(logits[ready], [batch[place][0].picker for place in ready]) if ready else []
        except Exception as error:  # noqa: BLE001 - whatever it is, it may end no more than its own row
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            if len(batch) == 1:
                _LOG.exception("A request for %s failed.", batch[0][0].request.voice.revision)
                self._fail(lane, batch[0][0])
                return
            half = len(batch) // 2
            self._forward(lane, first, batch[:half])
            self._forward(lane, first + half, batch[half:])
            return
        for row, new in batch:
            row.cached += len(new)
        for place, choice in zip(ready, choices, strict=True):
            row = batch[place][0]
            if choice is None:
                _LOG.error("A request for %s failed: the model gave no numbers.", row.request.voice.revision)
                self._fail(lane, row)
            elif (chunk := row.accept(choice)) is not None:
                self._delivery.add(row.request.channel, chunk)

    def _fail(self, lane: Lane, row: Row) -> None:
        row.is_over = True
        lane.wipe(row)
        self._delivery.add(row.request.channel, GenerationFailedError())

    def _make_cells(self) -> None:
        """Take slots away, the youngest row's first, while there are more tokens than the cache may hold."""
        while self.rows > 1 and self._cells() > self._bounds.cells:
            if self._drop_a_shadow():
                continue
            lane, row = max(self._all_rows(), key=lambda pair: pair[1].request.number)
            self._out(lane, {row})
            row.begin_again()
            self._without_slot[row.request] = row
            self._waiting.put_back(row.request)

    def _drop_a_shadow(self) -> bool:
        shadows = [(lane, row) for lane, row in self._all_rows() if row.request.priority == "shadow"]
        if not shadows:
            return False
        lane, row = max(shadows, key=lambda pair: pair[1].request.number)
        self._delivery.add(row.request.channel, DroppedError())
        self._remove(lane, {row}, is_finished=False)
        self._delivery.send()
        return True

    def _all_rows(self) -> list[tuple[Lane, Row]]:
        return [(lane, row) for lane in self._lanes.values() for row in lane.rows]

    def _remove_cancelled(self) -> None:
        for request in [request for request in self._without_slot if request.is_cancelled]:
            del self._without_slot[request]
        for lane in tuple(self._lanes.values()):
            gone = {row for row in lane.rows if row.request.is_cancelled}
            if gone:
                self._remove(lane, gone, is_finished=False)

    def _remove(self, lane: Lane, gone: set[Row], *, is_finished: bool) -> None:
        self._out(lane, gone)
        for row in gone:
            self._waiting.ended(row.request, is_finished=is_finished)

    def _out(self, lane: Lane, gone: set[Row]) -> None:
        lane.leave(gone)
        self._lanes = {name: lane for name, lane in self._lanes.items() if lane.rows}

    def _cut(self) -> None:
        """End whatever is left, because nothing will be generated any more."""
        self._waiting.close()
        for _, row in self._all_rows():
            self._delivery.add(row.request.channel, ShuttingDownError())
            self._waiting.ended(row.request, is_finished=False)
        for request in self._waiting.all_out():
            self._delivery.add(request.channel, ShuttingDownError())
        self._lanes = {}
        self._delivery.send()
        with self._waiting.lock:
            self._is_over = True
        while self._jobs:
            self._jobs.popleft()[1].set_exception(ShuttingDownError())
