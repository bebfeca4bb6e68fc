"""Ids of answers: not to be guessed, and telling which pod gave the answer."""

from __future__ import annotations

import pytest

from fettle_server.answer_ids import new_id, pod_tag


def test_an_id_is_new_each_time_and_ends_with_its_pod() -> None:
    scope = {"server": ("10.0.0.7", 8000)}
    ids = {new_id(scope) for _ in range(1000)}
    assert len({one.partition("-")[0] for one in ids}) == 1000
    assert {one.partition("-")[2] for one in ids} == {pod_tag("10.0.0.7", 8000)}


@pytest.mark.parametrize(
    ("seen", "known"),
    [("::ffff:10.0.0.7", "10.0.0.7"), ("FD00:0::7", "fd00::7"), ("fe80::1%eth0", "fe80::1")],
)
def test_every_spelling_of_an_address_is_the_same_pod(seen: str, known: str) -> None:
    assert pod_tag(seen, 8000) == pod_tag(known, 8000) != pod_tag(known, 8001)


@pytest.mark.parametrize("scope", [{}, {"server": None}, {"server": ("/run/server.sock", None)}])
def test_a_server_that_knows_no_address_still_gives_ids(scope: dict[str, object]) -> None:
    assert len(new_id(scope)) == 32
