"""The phases of a run: prepare → steps → finish. One process goes through all of them, or each has processes of its own."""

from __future__ import annotations

import gc
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers.utils import logging as transformers_logging

from fettle_trainer.config.outcome import Outcome
from fettle_trainer.durable.compatible import ensure_same_run
from fettle_trainer.durable.ranks import is_first_rank, leave_ranks
from fettle_trainer.durable.stop import StopRequest
from fettle_trainer.train.finishing import finish_run
from fettle_trainer.train.fit import run_shape
from fettle_trainer.train.job import make_job, write_reports
from fettle_trainer.train.steps import Fitted, train_steps
from fettle_trainer.watch.board import Board
from fettle_trainer.watch.server import Address, ProgressServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.data.http import Limits
    from fettle_trainer.train.fit import Job


def prepare(config: RunConfig, limits: Limits, tell: Callable[[str], None]) -> None:
    """Fetch, check and tokenise before any rank waits for another; the ranks find it done."""
    write_reports(make_job(config, limits), tell)


def steps(config: RunConfig, limits: Limits, tell: Callable[[str], None]) -> None:
    """Train as one of the ranks, or as the only one."""
    with quiet(), StopRequest().listening() as request, _board(config, tell) as board:
        _train(make_job(config, limits), request, board, tell)


def finish(config: RunConfig, limits: Limits, tell: Callable[[str], None]) -> Outcome:
    """Export, prove, measure and release what the steps have left."""
    with quiet(), StopRequest().listening() as request, _board(config, tell) as board:
        return finish_run(make_job(config, limits), request, board, tell)


def whole(config: RunConfig, limits: Limits, tell: Callable[[str], None]) -> Outcome:
    """Go through all phases on this process; of several ranks the first one finishes, and the others are done before."""
    with quiet(), StopRequest().listening() as request, _board(config, tell) as board:
        job = make_job(config, limits)
        if is_first_rank():
            write_reports(job, tell)
        if job.resolved.world_size == 1:
            request.check()  # several ranks agree on that, after their first step
        _train(job, request, board, tell)
        if not is_first_rank():
            return Outcome(outcome="succeeded")
        return finish_run(job, request, board, tell)


def _train(job: Job, request: StopRequest, board: Board, tell: Callable[[str], None]) -> None:
    if job.folders.fitted.is_file():
        # The last attempt ended between its last step and its release.
        ensure_same_run(
            Fitted.read(job.folders.fitted).run_digest, run_shape(job).run_digest, job.folders.work
        )
        return
    board.enter("training")
    train_steps(job, request, board, tell)
    leave_ranks()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars and advice to programmers out of what the user reads, and out of the collector's way."""
    # The libraries' own objects stay as long as the process; looking through them takes half a second each time.
    gc.freeze()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _board(config: RunConfig, tell: Callable[[str], None]) -> Iterator[Board]:
    board, port = Board(), config.tracking.progress_port
    if port is None or not is_first_rank():
        yield board
        return
    with ProgressServer(board, Address(config.tracking.progress_host, port), tell):
        yield board
