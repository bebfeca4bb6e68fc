"""Conditions, names, drift: the small pure parts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fettle_operator.conditions import Condition, updated
from fettle_operator.drift import holds
from fettle_operator.names import child_name, digest_of
from fettle_operator.ownership import is_owned_by, owner_reference
from fettle_operator.reasons import Reason
from fettle_operator.resources import ADAPTERS, JOBS

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
READY = Condition("Ready", "True", Reason.VERIFIED, "fine")


def test_the_transition_time_moves_only_when_the_status_flips() -> None:
    first = updated([], [READY], 1, NOW)
    later = NOW + timedelta(hours=1)

    same = updated(first, [Condition("Ready", "True", Reason.VERIFIED, "other words")], 1, later)
    flipped = updated(first, [Condition("Ready", "False", Reason.VERIFYING, "")], 1, later)

    assert same[0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert same[0]["message"] == "other words"
    assert flipped[0]["lastTransitionTime"] == "2026-01-01T13:00:00Z"


def test_a_condition_that_is_not_stated_any_more_vanishes() -> None:
    stalled = Condition("Stalled", "True", Reason.INVALID_SPEC, "")

    assert [each["type"] for each in updated(updated([], [READY, stalled], 1, NOW), [READY], 1, NOW)] == [
        "Ready"
    ]


def test_a_message_of_any_length_fits() -> None:
    stored = updated([], [Condition("Ready", "False", Reason.INVALID_SPEC, "x" * 5000)], 1, NOW)

    assert len(stored[0]["message"]) == 1024


@pytest.mark.parametrize("owner", ["a", "a" * 45, "a" * 63, "a-" * 40 + "a"])
def test_a_childs_name_fits_into_a_label_value(owner: str) -> None:
    name = child_name(owner, "verify", "deadbeef", "12")

    assert len(name) <= 63
    assert name.endswith("-verify-deadbeef-12")


def test_long_owners_that_differ_only_at_the_end_have_different_children() -> None:
    assert child_name("a" * 60 + "x", "verify", "1") != child_name("a" * 60 + "y", "verify", "1")


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


@pytest.mark.parametrize(
    ("intent", "live", "expected"),
    [
        ({"a": 1}, {"a": 1, "added": 2}, True),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
        ({"a": 1}, {}, False),
        ({"a": ""}, {}, True),
        ({"a": {}}, {}, True),
        ({"suspend": False}, {}, True),
        ({"suspend": False}, {"suspend": True}, False),
        ({"cpu": "1000m"}, {"cpu": "1"}, True),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, True),
        ({"memory": "1Gi"}, {"memory": "1G"}, False),
        ({"list": [1, 2]}, {"list": [1, 2, 3]}, False),
        ({"list": [{"a": 1}]}, {"list": [{"a": 1, "defaulted": True}]}, True),
        ({"list": "ab"}, {"list": ["a", "b"]}, False),
    ],
)
def test_an_intent_holds_when_everything_it_says_is_there(intent: Any, live: Any, expected: bool) -> None:
    assert holds(intent, live) is expected


def test_only_the_uid_of_the_controller_makes_a_child_ours() -> None:
    owner = {"metadata": {"name": "tuned", "uid": "one"}}
    child = {"metadata": {"ownerReferences": [owner_reference(ADAPTERS, owner)]}}
    guest = {"metadata": {"ownerReferences": [{**owner_reference(ADAPTERS, owner), "controller": False}]}}

    assert is_owned_by(child, "one")
    assert not is_owned_by(child, "two")
    assert not is_owned_by(guest, "one")
    assert not is_owned_by({"metadata": {}}, "one")


def test_a_path_cannot_be_led_elsewhere_by_a_name() -> None:
    assert JOBS.path("team", "../../secrets", "status") == (
        "/apis/batch/v1/namespaces/team/jobs/..%2F..%2Fsecrets/status"
    )
