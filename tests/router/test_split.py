"""The split: who goes where, and who stays there when a weight changes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle_router.hashing import xxh32
from fettle_router.split import choose, slot
from fettle_router.table import Table
from router_support.tables import bounds, main, table

KEYS = [f"user-{number}" for number in range(5000)]


def never() -> int:
    raise AssertionError("a key needs no chance")


def revisions(routing: Table) -> list[str]:
    return [choose(routing, key, draw=never).revision for key in KEYS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", 0x02CC5D05),
        (b"a", 0x550D7456),
        (b"abc", 0x32D153FF),
        (b"Nobody inspects the spammish repetition", 0xE2293B2F),
    ],
)
def test_the_hash_gives_the_published_values(text: bytes, expected: int) -> None:
    assert xxh32(text) == expected


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_raising_the_weight_moves_callers_to_the_candidate_and_nobody_back(one: int, other: int) -> None:
    low, high = sorted((one, other))
    before, after = (table(arms=[main(9999, below)]) for below in (low, high))

    for key in KEYS[:100]:
        if choose(before, key, draw=never).role == "candidate":
            assert choose(after, key, draw=never).role == "candidate"


def test_shares_follow_the_bounds() -> None:
    chosen = revisions(table())

    assert chosen.count("rev-c") / len(KEYS) == pytest.approx(0.2, abs=0.02)
    assert chosen.count("rev-b") / len(KEYS) == pytest.approx(0.8 * 0.1, abs=0.02)


def test_a_rollout_leaves_the_callers_of_a_variant_alone() -> None:
    one, other = table(), table(rolloutSalt="rollout-2", arms=[main(7999, 9000), formal()])

    for before, after in zip(revisions(one), revisions(other), strict=True):
        assert (before == "rev-c") == (after == "rev-c")


def formal() -> dict[str, object]:
    return {"name": "formal", "bounds": bounds(8000, 9999), "revision": "rev-c"}


def test_another_rollout_picks_other_callers_for_its_candidate() -> None:
    one, other = (revisions(table(rolloutSalt=salt)) for salt in ("rollout-1", "rollout-2"))

    both = sum(pair == ("rev-b", "rev-b") for pair in zip(one, other, strict=True))
    assert both < 0.3 * one.count("rev-b")


def test_the_two_hashes_of_a_caller_are_independent() -> None:
    low = [key for key in KEYS if slot(key, "arms") < 2000]

    assert sum(slot(key, "rollout") < 2000 for key in low) / len(low) == pytest.approx(0.2, abs=0.05)


def test_without_a_key_chance_decides_both_times() -> None:
    draws = itertools.cycle([7999, 999])

    assert choose(table(), None, draw=lambda: next(draws)).role == "candidate"


def test_an_arm_without_slots_gets_nobody() -> None:
    routing = table(arms=[main(), {"name": "formal", "bounds": None, "revision": "rev-c"}])

    assert set(revisions(routing)) == {"rev-a"}
