"""Reporting the run to an MLflow server.

The server is somebody else's: it may be slow or away. A thread of its own talks to it, from a queue that may overflow;
the training hands over its numbers and never waits, except for a bounded moment at the end. The token is read from its
file for every request and never stands in the environment.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.watch.observer import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fettle_trainer.config.run import MlflowConfig

RUN_NAME: Final = "mlflow-run"
"""The file that remembers the server's run, so that a resumed attempt goes on in the same one."""

_QUEUE_LENGTH: Final = 1000
_FAREWELL_S: Final = 30
_LONGEST_TAG: Final = 5000
"""Characters; the server refuses longer ones."""
_CLIENT_SETTINGS: Final = {
    # The client would tell its makers that it was used, and would try for minutes to reach a dead server.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Mlflow(Observer):
    """Hands the measurements to the thread that reports them."""

    def __init__(
        self,
        config: MlflowConfig,
        name: str,
        params: Mapping[str, str],
        work: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._report = _Report(config, name, dict(params), work / RUN_NAME)
        self._tell = tell
        self._queue: queue.Queue[_Item] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._told = False

    def begins(self, at: Position) -> None:  # noqa: ARG002 - the observer's interface, here and below
        """Start the thread."""
        self._thread.start()

    def logs(self, at: Position, values: Mapping[str, float]) -> None:
        """Queue a measurement."""
        numbers = {name: value for name, value in values.items() if math.isfinite(value)}
        self._put((round(time.time() * 1000), at.step, numbers))

    def ends(self, at: Position) -> None:
        """Wait a bounded time for what is still queued."""
        self._end("FINISHED" if at.step >= at.total_steps else "KILLED")

    def came_out(
        self, step: int, numbers: Mapping[str, float], words: Mapping[str, str], *, released: bool
    ) -> None:
        """Add the result to the run that training has left, and wait a bounded time until it is there."""
        at = Position(step, step)
        self.begins(at)
        self.logs(at, numbers)
        self._put(dict(words))
        self._end("FINISHED" if released else "FAILED")

    def _end(self, status: str) -> None:
        self._put(status)
        self._thread.join(_FAREWELL_S)
        if self._thread.is_alive():
            self._tell_once(f"it did not take everything within {_FAREWELL_S} s")

    def _put(self, item: _Item) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._tell_once("it is too slow; some measurements were not reported")

    def _work(self) -> None:
        try:
            self._report.open()
            while not isinstance(item := self._queue.get(), str):
                if isinstance(item, dict):
                    self._report.tag(item)
                else:
                    self._report.send(*item)
            self._report.close(item)
        except Exception as error:  # noqa: BLE001 - the training must not end because of a tracker
            self._tell_once(next(iter(str(error).splitlines()), type(error).__name__))

    def _tell_once(self, problem: str) -> None:
        if not self._told:
            self._told = True
            self._tell(f"MLflow at {self._report.uri}: {problem}. The training goes on.")


_Item = tuple[int, int, dict[str, float]] | dict[str, str] | str
"""A time in milliseconds with a step and its numbers, tags, or the status that the run ended with."""


class _Report:
    """One run on the server; every method may block and fail."""

    def __init__(self, config: MlflowConfig, name: str, params: dict[str, str], remembered: Path) -> None:
        self.uri = config.tracking_uri
        self._config = config
        self._name = name
        self._params = params
        self._remembered = remembered
        self._store: Any = None
        self._run_id = ""

    def open(self) -> None:
        for name, value in _CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        # Imported by the runs that ask for it only, and off the training's thread: it takes seconds.
        from mlflow.store.tracking.rest_store import RestStore  # noqa: PLC0415
        from mlflow.utils.rest_utils import MlflowHostCreds  # noqa: PLC0415

        self._store = RestStore(lambda: MlflowHostCreds(self.uri, token=self._token()))
        self._run_id = self._earlier_run() or self._new_run()

    def send(self, timestamp_ms: int, step: int, numbers: dict[str, float]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        metrics = [Metric(name, value, timestamp_ms, step) for name, value in numbers.items()]
        self._store.log_batch(self._run_id, metrics=metrics, params=[], tags=[])

    def tag(self, words: dict[str, str]) -> None:
        from mlflow.entities import RunTag  # noqa: PLC0415

        tags = [RunTag(name, value[:_LONGEST_TAG]) for name, value in words.items()]
        self._store.log_batch(self._run_id, metrics=[], params=[], tags=tags)

    def close(self, status: str) -> None:
        from mlflow.entities import RunStatus  # noqa: PLC0415

        self._store.update_run_info(
            self._run_id, RunStatus.from_string(status), round(time.time() * 1000), self._name
        )

    def _token(self) -> str | None:
        if self._config.token_file is None:
            return None
        with open(self._config.token_file, encoding="utf-8") as file:  # noqa: PTH123 - a plain path of the settings
            return file.read().strip()

    def _earlier_run(self) -> str:
        with suppress(FileNotFoundError):
            return self._remembered.read_text(encoding="utf-8").strip()
        return ""

    def _new_run(self) -> str:
        from mlflow.entities import Param  # noqa: PLC0415

        experiment = self._store.get_experiment_by_name(self._config.experiment)
        number = (
            experiment.experiment_id if experiment else self._store.create_experiment(self._config.experiment)
        )
        run = self._store.create_run(number, "", round(time.time() * 1000), [], self._name)
        params = [Param(name, value[:500]) for name, value in self._params.items()]
        self._store.log_batch(run.info.run_id, metrics=[], params=params, tags=[])
        write_atomically(self._remembered, run.info.run_id.encode())
        return str(run.info.run_id)
