"""What can be rated, how often it counts, and for how long."""

from __future__ import annotations

from asgi_calls import call
from fettle_server.feedback import FeedbackBook, Rated, Subject
from fettle_server.layer.feedback_endpoint import FeedbackEndpoint
from fettle_server.metrics import LayerMetrics

STABLE = Subject("rev-a", "stable", "weighted")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_rating_counts_once_per_change_of_direction() -> None:
    book = FeedbackBook()
    book.remember("chatcmpl-1", STABLE)
    counted = [book.rate("chatcmpl-1", rating) for rating in ("up", "up", "down", "down", "up")]  # type: ignore[arg-type]
    assert [rated.counts for rated in counted if rated] == [True, False, True, False, True]


def test_who_keeps_changing_their_mind_stops_counting() -> None:
    book = FeedbackBook()
    book.remember("chatcmpl-1", STABLE)
    rated = [book.rate("chatcmpl-1", "up" if turn % 2 else "down") for turn in range(100)]
    assert sum(one.counts for one in rated if one) == 4


def test_an_answer_can_be_rated_until_its_time_is_over() -> None:
    clock = Clock()
    book = FeedbackBook(lifetime_s=60, clock=clock)
    book.remember("chatcmpl-1", STABLE)
    clock.now += 59
    assert book.rate("chatcmpl-1", "up") == Rated(STABLE, counts=True)
    clock.now += 1
    assert book.rate("chatcmpl-1", "down") is None


def test_the_oldest_answers_make_room_and_the_expired_ones_too() -> None:
    clock = Clock()
    book = FeedbackBook(capacity=3, lifetime_s=60, clock=clock)
    for number in range(10):
        book.remember(f"chatcmpl-{number}", STABLE)
    assert len(book) == 3
    assert book.rate("chatcmpl-6", "up") is None
    assert book.rate("chatcmpl-7", "up")
    clock.now += 61
    book.remember("chatcmpl-new", STABLE)
    assert len(book) == 1


async def test_a_thumb_over_http_is_counted_for_the_revision_that_answered() -> None:
    book, metrics = FeedbackBook(), LayerMetrics(lambda: {"rev-a"})
    endpoint = FeedbackEndpoint(book, metrics)
    book.remember("chatcmpl-1", STABLE)
    assert (await call(endpoint, "POST", "/feedback", {"id": "chatcmpl-1", "rating": "down"})).status == 200
    line = b'fettle_server_feedback_total{rating="down",revision="rev-a",role="stable",route="weighted"} 1.0'
    assert line in metrics.exposition()


async def test_what_cannot_be_rated_is_said() -> None:
    endpoint = FeedbackEndpoint(FeedbackBook(), LayerMetrics(lambda: ()))
    unknown = await call(endpoint, "POST", "/feedback", {"id": "chatcmpl-x", "rating": "up"})
    assert (unknown.status, unknown.json()["error"]["param"]) == (404, "id")
    wrong = await call(endpoint, "POST", "/feedback", {"id": "chatcmpl-x", "rating": "meh"})
    assert (wrong.status, wrong.json()["error"]["param"]) == (400, "rating")
    extra = await call(endpoint, "POST", "/feedback", {"id": "chatcmpl-x", "rating": "up", "text": "!"})
    assert (extra.status, extra.json()["error"]["param"]) == (400, "text")
    assert (await call(endpoint, "GET", "/feedback")).status == 405
    assert (await call(endpoint, "POST", "/feedback", {"id": "x" * 5000, "rating": "up"})).status == 413
