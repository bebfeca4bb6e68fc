"""Slots and plans: as little as possible changes, in an order that is right between any two steps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fettle_router.layout import Layout
from fettle_router.plan import Action, AddEntry, DeleteEntry, ReplaceMap, SetEntry, SetServer, plan
from fettle_router.pods import tag
from fettle_router.render import Rendered, render
from fettle_router.slots import Endpoint, Slots, assign
from router_support.tables import KEY, bounds, client, main, revision, table

PODS = [Endpoint("10.0.0.1", port) for port in range(1, 30)]


def rendered(slots: Slots = (None,) * 8, **changes: Any) -> Rendered:
    return render(table(**changes), {"pool-a": slots}, Layout(Path("/run/fettle")))


@given(st.lists(st.sets(st.sampled_from(PODS)), min_size=1, max_size=6))
def test_pods_keep_their_slot_and_all_are_placed(steps: list[set[Endpoint]]) -> None:
    slots: Slots = ()
    for pods in steps:
        before, slots = slots, assign(slots, pods)
        assert sorted(slot for slot in slots if slot) == sorted(pods)
        assert len(slots) >= len(before)
        for position, slot in enumerate(before):
            if slot in pods:
                assert slots[position] == slot


def test_nothing_to_do_is_nothing_to_tell() -> None:
    assert plan(rendered(), rendered()).actions == ()


def test_from_nothing_and_to_another_structure_it_is_a_reload() -> None:
    assert plan(None, rendered()).reload
    assert plan(rendered(), rendered(sticky={"header": "x-user"})).reload


def test_thousands_of_changes_are_a_reload() -> None:
    many = [client(f"c{number}", f"key-{number}") for number in range(2001)]

    assert plan(rendered(), rendered(access={"clients": many})).reload


def test_a_weight_is_one_step_and_the_version_follows_it() -> None:
    after = rendered(version=2, arms=[main(7999, 2500), formal()])

    assert plan(rendered(), after).actions == (
        SetEntry("arms", "0:7999", "2500:rollout-1:rev-b:rev-a"),
        SetEntry("loaded", "version", "2"),
    )


def formal() -> dict[str, Any]:
    return {"name": "formal", "bounds": bounds(8000, 9999), "revision": "rev-c"}


def test_a_revoked_key_goes_before_everything_else() -> None:
    after = rendered(assign((), PODS[:1]), version=2, access={"clients": [client("team-a", "new")]}, pins={})

    first, second, *_ = plan(rendered(), after).actions

    assert isinstance(first, DeleteEntry)
    assert isinstance(second, DeleteEntry)
    assert first.map == second.map == "keys"
    assert KEY not in str(first)


def test_a_revision_is_known_before_a_split_leads_to_it_and_as_long_as_one_does() -> None:
    new_arms = [main(4999), {"name": "extra", "bounds": bounds(5000, 9999), "revision": "rev-e"}]
    new = rendered(version=2, revisions=[revision("rev-a"), revision("rev-e")], arms=new_arms, pins={})

    steps = plan(rendered(), new).actions

    order = [
        position(steps, AddEntry("revisions", "rev-e", "pool-a/variant")),
        position(steps, ReplaceMap("arms", (("0:4999", "0:::rev-a"), ("5000:9999", "0:::rev-e")))),
        position(steps, DeleteEntry("revisions", "rev-c")),
        position(steps, SetEntry("loaded", "version", "2")),
    ]
    assert order == sorted(order)
    assert order[-1] == len(steps) - 1


def test_new_pods_come_in_before_old_ones_go() -> None:
    before = assign((), PODS[:2])

    steps = plan(rendered(before), rendered(assign(before, PODS[1:3]))).actions

    assert steps == (
        SetServer("pool-a", 0, PODS[2]),
        AddEntry("pods", tag(PODS[2]), "pool-a/s0"),
        DeleteEntry("pods", tag(PODS[0])),
    )
    first, second, *_ = plan(rendered((PODS[0], None)), rendered((None, PODS[1]))).actions
    assert (first, second) == (SetServer("pool-a", 1, PODS[1]), SetServer("pool-a", 0, None))


def test_a_client_without_tokens_is_one_changed_entry_and_back_again_when_it_has_some() -> None:
    limited = {"limits": {"tokensPerMinute": 100}}
    free, spent = (
        render(table(**limited), {"pool-a": ()}, Layout(Path("/run/fettle")), blocked)
        for blocked in ({}, {"team-a": 1_700_000_060})
    )

    there, back = plan(free, spent).actions, plan(spent, free).actions

    assert there == (SetEntry("limits", "team-a", "4000000000:4000000000:1700000060"),)
    assert back == (SetEntry("limits", "team-a", "4000000000:4000000000:0"),)


def position(steps: Iterable[Action], step: Action) -> int:
    return list(steps).index(step)
