"""Who has used up their tokens, and when they have some again."""

from fettle_router.allowance import Reading, blocked_until, token_limits
from router_support.tables import KEY, OTHER_KEY, client, table

NOW = 1_700_000_000.0
LIMIT = {"team-a": 100}


def read(*tokens: tuple[int, int], at_s: float = NOW, name: str = "team-a") -> Reading:
    return Reading(at_s, {name: tokens})


def test_only_clients_with_a_limit_of_tokens_are_watched() -> None:
    own, none = client("own", KEY, tokensPerMinute=5), client("none", OTHER_KEY, concurrency=1)
    routing = table(limits={"tokensPerMinute": 9}, access={"clients": [own, none, client("usual", "x")]})

    assert token_limits(routing) == {"own": 5, "usual": 9}
    assert token_limits(table(limits={"tokensPerMinute": 9}, access={"mode": "open"})) == {"anonymous": 9}


def test_the_tokens_of_all_pods_count_together_and_the_limit_is_what_may_be_used() -> None:
    assert blocked_until(LIMIT, [read((0, 60)), read((0, 39))], {}, NOW) == {}
    assert blocked_until(LIMIT, [read((0, 60)), read((0, 40))], {}, NOW) == {"team-a": 1_700_000_061}
    assert blocked_until(LIMIT, [read((0, 500), name="team-b")], {}, NOW) == {}


def test_the_wait_ends_when_enough_is_older_than_a_minute() -> None:
    pods = [read((1, 30), (50, 60)), read((20, 30), (59, 10))]

    # 130 in all: without the 10 and the 60 it is 60, which is below the limit, after ten more seconds.
    assert blocked_until(LIMIT, pods, {}, NOW) == {"team-a": 1_700_000_011}


def test_a_pod_that_tells_nothing_new_grows_older_until_it_is_forgotten() -> None:
    silent = [read((0, 100))]

    assert blocked_until(LIMIT, silent, {}, NOW + 59) == {"team-a": 1_700_000_061}
    assert blocked_until(LIMIT, silent, {}, NOW + 60) == {}


def test_rounding_alone_changes_nothing() -> None:
    former = {"team-a": 1_700_000_061}

    assert blocked_until(LIMIT, [read((0, 100), at_s=NOW + 0.9)], former, NOW + 0.9) == former
    assert blocked_until(LIMIT, [read((0, 100), at_s=NOW + 5)], former, NOW + 5) != former
