"""The public paths: each reads a request, finds the revision that is asked for, and lets it answer."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple

from fettle_server.answer_ids import new_id
from fettle_server.api import chat, completions, listing, score
from fettle_server.api.body import BodyLimits, read_json
from fettle_server.api.generation import Answers, Job
from fettle_server.api.names import REVISION_HEADER
from fettle_server.api.prompts import Prompts
from fettle_server.api.reply import Head
from fettle_server.api.responses import EventStream, json_response, whole_answers
from fettle_server.api.validation import refuse_unsupported, validated
from fettle_server.layer.facts import facts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from fettle_server.api.names import Names
    from fettle_server.api.serving import Serving
    from fettle_server.layer.asgi import App
    from fettle_server.layer.facts import RequestFacts

__all__ = ["Endpoints"]


class _Target(NamedTuple):
    """Who answers a request, and the notes on it."""

    revision: str
    fingerprint: str
    facts: RequestFacts

    @property
    def headers(self) -> dict[str, str]:
        return {REVISION_HEADER: self.revision}


class Endpoints:
    """What clients can ask of the server."""

    def __init__(self, serving: Serving, names: Names, limits: BodyLimits | None = None) -> None:
        self._serving = serving
        self._names = names
        self._limits = limits or BodyLimits()
        self._prompts = Prompts(serving)
        self._created = int(time.time())

    async def chat(self, request: Request) -> App:
        """Continue a conversation."""
        document = await read_json(request.scope, request.receive, self._limits)
        asked = validated(chat.ChatRequest, refuse_unsupported(document, chat.HARMLESS))
        target = self._target(request, asked.model)
        prompt = await self._prompts.of_chat(target.revision, asked.messages, asked.shown_tools)
        jobs = [Job(prompt, asked.sampling(choice)) for choice in range(asked.choices)]
        reply = chat.ChatReply(_head("chatcmpl", request, target, asked.model), asked)
        answers = self._answers(target, [prompt], jobs)
        if asked.stream:
            return _streamed(target, answers, reply)
        return await whole_answers(request.receive, answers, reply, target.headers)

    async def complete(self, request: Request) -> App:
        """Continue a text."""
        document = await read_json(request.scope, request.receive, self._limits)
        asked = validated(completions.CompletionRequest, refuse_unsupported(document, completions.HARMLESS))
        target = self._target(request, asked.model)
        prompts = await self._prompts.of_texts(target.revision, asked.prompt)
        jobs = [Job(prompt, asked.sampling(choice)) for prompt in prompts for choice in range(asked.choices)]
        reply = completions.CompletionReply(_head("cmpl", request, target, asked.model), asked)
        answers = self._answers(target, prompts, jobs)
        if asked.stream:
            return _streamed(target, answers, reply)
        return await whole_answers(request.receive, answers, reply, target.headers)

    async def score(self, request: Request) -> App:
        """Continue a conversation, in Azure ML's words."""
        document = await read_json(request.scope, request.receive, self._limits)
        asked = validated(score.ScoreRequest, document)
        target = self._target(request, None)
        prompt = await self._prompts.of_chat(target.revision, asked.input_data.input_string)
        answers = self._answers(target, [prompt], [Job(prompt, asked.sampling())])
        return await whole_answers(request.receive, answers, score.ScoreReply(), target.headers)

    async def models(self, _request: Request) -> App:
        """List what can be asked for."""
        return json_response(listing.models(self._names, self._serving.running.adapters(), self._created))

    async def model(self, request: Request) -> App:
        """Return one of the list."""
        listed = listing.models(self._names, self._serving.running.adapters(), self._created)
        return json_response(listing.model(request.path_params["model"], listed))

    def _target(self, request: Request, model: str | None) -> _Target:
        digests = {adapter.revision: adapter.digest for adapter in self._serving.running.adapters()}
        pinned = request.headers.get(REVISION_HEADER, "")
        revision = self._names.revision(pinned, model, digests)
        facts = facts_of(request.scope)
        facts.revision = revision
        return _Target(revision, _fingerprint(self._names.base, digests.get(revision, "")), facts)

    def _answers(self, target: _Target, prompts: Sequence[Sequence[int]], jobs: Sequence[Job]) -> Answers:
        target.facts.tokens_in = sum(map(len, prompts))
        return Answers(self._serving.running, target.revision, jobs, target.facts)


def _streamed(target: _Target, answers: Answers, reply: chat.ChatReply | completions.CompletionReply) -> App:
    target.facts.stream = True
    return EventStream(answers, reply, target.headers)


def _head(kind: str, request: Request, target: _Target, model: str) -> Head:
    """Begin a reply; its id is what a client rates the answer by, so nobody may guess it."""
    target.facts.response_id = f"{kind}-{new_id(request.scope)}"
    return Head(target.facts.response_id, int(time.time()), model, target.fingerprint)


def _fingerprint(base: str, digest: str) -> str:
    return f"fp_{hashlib.sha256(f'{base} {digest}'.encode()).hexdigest()[:12]}"
