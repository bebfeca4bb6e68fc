"""Clusters side by side never meet, and what is asked for is what is planned."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from pathlib import Path

import pytest

from devcluster import network, state
from devcluster.errors import DevclusterError
from devcluster.plan import (
    MAX_INSTANCES,
    MAX_NODES,
    Plan,
    check_counts,
    check_instance_name,
    check_state_path,
)
from devcluster.state import Wanted

LONGEST_DEVICE_NAME = 15


def plan(index: int = 0, nodes: int = 1, fake_gpus: int = 0) -> Plan:
    state_folder = Path(f"/var/lib/fettle-{index}")
    return Plan(f"i{index}", index, state_folder, Path("/cache"), nodes, fake_gpus)


def networks(one: Plan) -> list[IPv4Network]:
    nodes = IPv4Network(f"{one.host_address}/24", strict=False)
    return [nodes, IPv4Network(one.pod_cidr), IPv4Network(one.service_cidr)]


@pytest.mark.parametrize(("left", "right"), list(combinations(range(MAX_INSTANCES), 2)))
def test_two_clusters_share_no_address_and_no_name(left: int, right: int) -> None:
    one, other = plan(left, MAX_NODES), plan(right, MAX_NODES)
    assert not any(a.overlaps(b) for a in networks(one) for b in networks(other))
    assert one.device != other.device
    assert not {node.cgroup for node in one.nodes} & {node.cgroup for node in other.nodes}


@pytest.mark.parametrize("index", range(MAX_INSTANCES))
def test_the_three_ranges_of_a_cluster_are_apart_and_hold_what_they_must(index: int) -> None:
    one = plan(index, MAX_NODES)
    hosts, pods, services = networks(one)
    assert not any(a.overlaps(b) for a, b in combinations((hosts, pods, services), 2))
    assert all(IPv4Address(node.address) in hosts for node in one.nodes)
    assert all(IPv4Network(node.pod_cidr).subnet_of(pods) for node in one.nodes)
    assert len({node.address for node in one.nodes} | {one.host_address}) == MAX_NODES + 1
    assert IPv4Address(one.dns_service_address) in services
    assert len(one.device) <= LONGEST_DEVICE_NAME


def test_every_pod_range_is_reachable_from_the_host_and_from_every_other_node() -> None:
    one = plan(nodes=3)
    for node in one.nodes:
        assert network.host_routes(one)[node.pod_cidr] == node.address
        for other in one.nodes:
            assert (node.pod_cidr in network.node_routes(one, other)) == (node != other)


@pytest.mark.parametrize("name", ["", "UPPER", "-dash", "dash-", "two words", "../up", "a" * 21])
def test_an_instance_name_that_could_not_be_part_of_a_path_is_refused(name: str) -> None:
    with pytest.raises(DevclusterError, match="--instance"):
        check_instance_name(name)


@pytest.mark.parametrize(
    ("nodes", "gpus", "flag"), [(0, 0, "--nodes"), (10, 0, "--nodes"), (1, -1, "--fake-gpus")]
)
def test_a_size_that_is_not_possible_is_refused_by_the_flags_name(nodes: int, gpus: int, flag: str) -> None:
    with pytest.raises(DevclusterError, match=flag):
        check_counts(nodes, gpus)


def test_a_state_folder_too_deep_for_its_sockets_is_refused() -> None:
    check_state_path(Path("/var/lib/fettle-devcluster-with-a-longer-name"))
    with pytest.raises(DevclusterError, match="FETTLE_DEVCLUSTER_STATE"):
        check_state_path(Path("/var/lib") / ("a" * 60))


@pytest.mark.parametrize(
    ("recorded", "nodes", "gpus", "expected"),
    [
        (None, None, None, Wanted(index=1, nodes=1, fake_gpus=0)),
        (None, 2, 4, Wanted(index=1, nodes=2, fake_gpus=4)),
        (Wanted(3, 2, 4), None, None, Wanted(3, 2, 4)),
        (Wanted(3, 2, 4), 3, 0, Wanted(3, 3, 0)),
    ],
)
def test_the_command_line_wins_over_the_record_and_the_record_over_the_defaults(
    recorded: Wanted | None, nodes: int | None, gpus: int | None, expected: Wanted
) -> None:
    assert state.decide(recorded, nodes=nodes, fake_gpus=gpus, taken={0, 2}) == expected


def test_a_cluster_does_not_lose_nodes_in_passing() -> None:
    with pytest.raises(DevclusterError, match="cannot shrink to 1"):
        state.decide(Wanted(0, 2, 0), nodes=1, fake_gpus=None, taken=())


def test_a_machine_full_of_clusters_takes_no_other() -> None:
    with pytest.raises(DevclusterError, match="run `down`"):
        state.lowest_free(range(MAX_INSTANCES))


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    wanted = Wanted(index=2, nodes=3, fake_gpus=4)
    assert state.load(tmp_path) is None
    state.store(tmp_path, wanted)
    assert state.load(tmp_path) == wanted
