"""The engine: what the HTTP side, the metrics and the shadow traffic speak to."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import torch

from fettle_server.engine.adapter_files import AdapterReader
from fettle_server.engine.adapters import MIXED_LANE, Adapters
from fettle_server.engine.base_model import load_base_model
from fettle_server.engine.batch_model import BatchModel
from fettle_server.engine.cpu_threads import tune_threads
from fettle_server.engine.memory import cache_tokens, context_tokens
from fettle_server.engine.proof import prove_rows
from fettle_server.engine.request import Answer, Channel, Request, Voice
from fettle_server.engine.settings import EngineSettings
from fettle_server.engine.step_loop import Bounds, StepLoop
from fettle_server.engine.text_side import TextSide, load_text_side
from fettle_server.engine.types import Chunk, EngineError, Load, PromptTooLongError
from fettle_server.engine.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fettle_server.engine.types import AdapterSpec, AdapterState, Priority, Sampling

__all__ = ["Engine", "EngineSettings", "TextSide"]

_LOG = logging.getLogger(__name__)


class Engine:
    """One base model and its adapters; everything may be called from the event loop, and nothing blocks it."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.max_context = 0
        """Tokens of a prompt and its answer together; known once started."""
        self._waiting = Waiting(settings.max_waiting)
        self._cells = 0
        self._vocabulary = 0
        self._is_stopping = False
        self._parts: tuple[StepLoop, Adapters] | None = None

    async def start(self) -> None:
        """Load the base model and generate one token; raise BaseRefusedError with a sentence if it cannot be served."""
        steps, adapters = await asyncio.to_thread(self._load)
        steps.start()
        self._parts = steps, adapters

    async def stop(self, drain_s: float) -> None:
        """Refuse new work, finish within so many seconds what was taken on, then cut it."""
        self._is_stopping = True
        self._waiting.close()
        if self._parts is not None:
            steps, adapters = self._parts
            adapters.stop()
            await asyncio.to_thread(steps.stop, drain_s)

    def text_of(self, revision: str) -> TextSide:
        """Return how a revision's texts become tokens; raise UnknownRevisionError or RevisionNotReadyError."""
        return self._adapters.known_voice(revision).text

    def generate(
        self, revision: str, prompt: Sequence[int], sampling: Sampling, *, priority: Priority = "user"
    ) -> AsyncIterator[Chunk]:
        """Queue a request and return its answer's chunks; what it cannot take is raised here, as an EngineError.

        Whoever stops reading has it freed at the next step: by `aclose`, by cancellation, or by letting go of it.
        """
        room = self.max_context - len(prompt)
        if room < 1:
            raise PromptTooLongError(len(prompt), self.max_context - 1)
        if not prompt:
            msg = "the prompt is empty; a model needs at least one token to go on from"
            raise ValueError(msg)
        # An index without a row ends the step on a CPU, and every later one on a GPU.
        if not 0 <= min(prompt) <= max(prompt) < self._vocabulary:
            message = f"The prompt holds a token id that the model has not: they go from 0 to {self._vocabulary - 1}."
            raise EngineError(message)
        if sampling.max_tokens < 1:
            msg = f"max_tokens is {sampling.max_tokens}; at least one token has to be asked for"
            raise ValueError(msg)
        channel = Channel(asyncio.get_running_loop())
        # Under one lock, so that an adapter cannot be dropped between the look at it and the request for it.
        with self._waiting.lock:
            voice = self._adapters.voice(revision)
            most = min(sampling.max_tokens, room)
            self._waiting.add(Request(voice, tuple(prompt), sampling, priority, most, channel))
        return Answer(channel)

    async def apply(self, wanted: Sequence[AdapterSpec]) -> list[AdapterState]:
        """Serve exactly these adapters beside the base model; returns at once, `adapters` tells how it goes."""
        return self._adapters.apply(wanted)

    def adapters(self) -> list[AdapterState]:
        """Return where each adapter stands."""
        return [] if self._parts is None else self._adapters.states()

    def load(self) -> Load:
        """Return how busy the engine is."""
        with self._waiting.lock:
            running = +self._waiting.running
            waiting = self._waiting.waiting_by_revision()
        tokens = 0 if self._parts is None else self._parts[0].tokens
        return Load(
            running=running.total(),
            waiting=waiting.total(),
            cache_share=tokens / self._cells if self._cells else 0.0,
            max_running=self.settings.max_running,
            max_waiting=self.settings.max_waiting,
            running_by_revision=dict(running),
            waiting_by_revision=dict(waiting),
        )

    @property
    def healthy(self) -> bool:
        """Whether answers can still be generated; a restart is the only cure if not."""
        return self._parts is None or self._parts[0].error is None

    @property
    def ready(self) -> bool:
        """Whether the base and every wanted adapter have made a token, refused ones apart."""
        return (
            self._parts is not None and self.healthy and not self._is_stopping and self._adapters.is_settled
        )

    @property
    def _adapters(self) -> Adapters:
        if self._parts is None:
            msg = "the engine has not been started"
            raise RuntimeError(msg)
        return self._parts[1]

    def _load(self) -> tuple[StepLoop, Adapters]:
        settings = self.settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        base = load_base_model(settings)
        self._vocabulary = base.model.get_input_embeddings().num_embeddings
        text = load_text_side(settings.base, base.stop_ids)
        self._cells = cache_tokens(settings, base)
        self.max_context = context_tokens(settings, base, self._cells)
        model = BatchModel(base)
        if settings.threads is None:
            tune_threads(model)
        prove_rows(model, text.encode("The quick brown fox jumps over the lazy dog."), self.max_context)
        _LOG.info(
            "Serving %s (%s): %d tokens of context, %d in the cache, %d threads.",
            settings.base, base.digest, self.max_context, self._cells, torch.get_num_threads(),
        )  # fmt: skip
        bounds = Bounds(settings.max_running, self._cells, settings.prefill_tokens)
        steps = StepLoop(model, self._waiting, bounds)
        reader = AdapterReader(settings.adapters_root, base, text, settings.max_lora_rank)
        voice = Voice(settings.base_revision, None, MIXED_LANE, text)
        adapters = Adapters(voice, reader, steps, self._waiting, settings.max_adapters)
        steps.between_steps = adapters.tidy
        return steps, adapters
