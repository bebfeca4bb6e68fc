"""`POST /feedback`: a thumb for an answer."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fettle_server.feedback import FeedbackBook, Rating
from fettle_server.layer.asgi import Receive, Refused, Scope, Send, read_body, require_method, respond
from fettle_server.metrics import LayerMetrics

__all__ = ["FeedbackEndpoint"]

_MAX_BYTES: Final = 4_096


class _Feedback(BaseModel):
    """The body of the request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=256)]
    rating: Rating


class FeedbackEndpoint:
    """Takes ratings and counts them."""

    def __init__(self, book: FeedbackBook, metrics: LayerMetrics) -> None:
        self._book = book
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await respond(send, self._answer(scope, receive))

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        require_method(scope, "POST")
        self._rate(_parsed(await read_body(receive, _MAX_BYTES)))
        return b'{"status": "ok"}'

    def _rate(self, feedback: _Feedback) -> None:
        rated = self._book.rate(feedback.id, feedback.rating)
        if rated is None:
            raise Refused(
                404,
                "unknown_response",
                "No answer of that id was given here, or it was too long ago to be rated.",
                param="id",
            )
        if rated.counts:
            self._metrics.rated(rated.subject, feedback.rating)


def _parsed(body: bytes) -> _Feedback:
    try:
        return _Feedback.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, problem["loc"]))
        message = f'Send {{"id": "…", "rating": "up" or "down"}}: {field or "body"}: {problem["msg"]}.'
        raise Refused(400, "invalid_feedback", message, param=field or None) from None
