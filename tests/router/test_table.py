"""The routing table: what is understood, what is refused, and what the refusal says."""

import json
from typing import Any

import pytest

from fettle_router.errors import InvalidTable
from fettle_router.table import parse
from router_support.tables import bounds, client, document, main, revision, table

HASH = "0" * 64


def test_a_complete_table_is_read_with_its_defaults() -> None:
    read = table()

    assert read.main.candidate is not None
    assert read.main.candidate.below == 1000
    assert read.limits.requests_per_minute is None
    assert read.sticky.by_client


def test_limits_of_a_client_replace_those_of_the_table_as_a_whole() -> None:
    read = table(
        limits={"requestsPerMinute": 10, "concurrency": 2},
        access={"mode": "keys", "clients": [client("own", "k", concurrency=5), client("common", "l")]},
    )

    own, common = read.access.clients
    assert (read.limits_of(own).requests_per_minute, read.limits_of(own).concurrency) == (None, 5)
    assert read.limits_of(common).requests_per_minute == 10


def variant(first: int, last: int, name: str = "formal") -> dict[str, Any]:
    return {"name": name, "bounds": bounds(first, last), "revision": "rev-c"}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"format": 2}, "format"),
    ({"version": 0}, "version"),
    ({"version": "1"}, "version"),
    ({"colour": "red"}, "colour"),
    ({"models": []}, "models"),
    ({"models": ["bot@2"]}, "models.0"),
    ({"models": ["bot", "bot"]}, "model bot is listed twice"),
    ({"rolloutSalt": "a:b"}, "rolloutSalt"),
    ({"deployment": "bot\n    bind :80"}, "deployment"),
    ({"arms": [main(7999), variant(8001, 9999)]}, "slots 8000 to 8000 belong to no arm"),
    ({"arms": [main(7999), variant(7999, 9999)]}, "slots 7999 to 7999 belong to two arms"),
    ({"arms": [main(7999), variant(8000, 9998)]}, "slots 9999 to 9999 belong to no arm"),
    ({"arms": [main(7999), variant(8000, 10000)]}, "arms.1.bounds.last"),
    ({"arms": [main(7999), variant(9000, 8000)]}, "first (9000) is above last (8000)"),
    ({"arms": [variant(0, 9999)]}, "one must be called main"),
    ({"arms": [main(9999), {**main(), "bounds": None}]}, "arm main is listed twice"),
    ({"arms": [main(9999, 10001)]}, "arms.0.candidate.below"),
    ({"arms": [{**main(), "candidate": {"revision": "rev-a", "below": 1}}]}, "already the stable revision"),
    (
        {"arms": [main(7999), {**variant(8000, 9999), "candidate": {"revision": "rev-b", "below": 1}}]},
        "arms[formal].candidate: only the arm main",
    ),
    ({"arms": [{**main(), "revision": "rev-z"}]}, "arms[main].revision: no revision is called rev-z"),
    ({"pins": {"x": "rev-z"}}, "pins[x]: no revision is called rev-z"),
    ({"revisions": [revision("rev-a", pool="pool-z")]}, "revisions[rev-a].pool: no pool is called pool-z"),
    ({"revisions": [revision("rev-a"), revision("rev-a")]}, "revision rev-a is listed twice"),
    ({"access": {"mode": "open", "clients": [client("a", "k")]}}, "cannot be listed when mode is open"),
    ({"access": {"mode": "keys", "clients": [client("a", "k"), client("b", "k")]}}, "is listed twice"),
    ({"access": {"mode": "keys", "clients": [client("a", "k", "l", "m")]}}, "access.clients.0.keyHashes"),
    ({"access": {"clients": [{"name": "a", "keyHashes": ["sk-plain"]}]}}, "access.clients.0.keyHashes.0"),
    ({"access": {"clients": [client("a b", "k")]}}, "access.clients.0.name"),
    ({"sticky": {"header": "authorization"}}, "header authorization is reserved"),
    ({"sticky": {"header": "x-fettle-client"}}, "header x-fettle-client is reserved"),
    ({"sticky": {"header": "x-user)"}}, "sticky.header"),
    ({"limits": {"concurrency": 0}}, "limits.concurrency"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_wrong_table_is_refused_and_the_field_named(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidTable) as refusal:
        parse(json.dumps(document(**change)))

    assert sentence in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format":1}', "\0", '{"version":1e999}'])
def test_text_that_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(InvalidTable):
        parse(text)


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(InvalidTable) as refusal:
        parse(json.dumps(document(version=0, models=[], deployment="B")))

    assert len(str(refusal.value).splitlines()) == 3


def test_a_refusal_never_repeats_a_key_hash() -> None:
    with pytest.raises(InvalidTable) as refusal:
        parse(json.dumps(document(access={"clients": [{"name": "a b", "keyHashes": [HASH]}]})))

    assert HASH not in str(refusal.value)
