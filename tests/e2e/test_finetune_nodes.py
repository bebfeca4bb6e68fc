"""FineTuneJobs over two nodes, and with GPUs, which here are only advertised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import finetune_team
from devcluster.waiting import wait_until
from finetune_team import Team, finetunejob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_plugin import Cluster

pytestmark = pytest.mark.cluster

MORE_THAN_HALF_A_NODE = {"requests": {"cpu": "1100m", "memory": "1Gi"}}
SMALL = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}


@pytest.fixture(scope="module")
def team(two_node_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Return a namespace with Fettle, and volumes that both nodes mount."""
    with finetune_team.settled(two_node_cluster, tmp_path_factory.mktemp("shared")) as made:
        yield made


def test_pods_on_two_nodes_train_one_adapter(team: Team) -> None:
    gang = {"nodes": 2, "zero": {"stage": 1}}
    team.apply(finetunejob("far", distributed=gang, resources=MORE_THAN_HALF_A_NODE))

    status = team.await_end("far")

    assert team.ready("far")["status"] == "True", status
    assert sorted(status["attempts"][-1]["nodes"]) == ["node1", "node2"]
    assert status["attemptCount"] == 1


def test_each_process_gets_a_gpu_and_one_too_many_is_told(team: Team) -> None:
    gang = {"nodes": 2, "processesPerNode": 2}
    team.apply(finetunejob("fast", profile="gpu", distributed=gang, resources=SMALL))
    too_many = {"nodes": 2, "processesPerNode": 4}
    wait_until(
        lambda: len(pods_of(team, "fast")) == 2,
        timeout_s=180,
        every_s=0.5,
        otherwise=lambda: f"it does not start: {team.status('fast')}",
    )
    for pod in pods_of(team, "fast"):
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"][
            "tolerations"
        ]

    team.apply(finetunejob("greedy", profile="gpu", distributed=too_many, resources=SMALL))

    wait_until(
        lambda: team.ready("greedy").get("reason") == "Unschedulable",
        timeout_s=180,
        every_s=0.5,
        otherwise=lambda: f"a lack of GPUs is not told: {team.ready('greedy')}",
    )
    assert "Insufficient nvidia.com/gpu" in team.ready("greedy")["message"]
    assert team.status("greedy")["phase"] == "Queued"
    team.kubectl("delete", "finetunejob", "greedy", "--wait")
    status = team.await_end("fast")
    assert team.ready("fast")["status"] == "True", status


def pods_of(team: Team, name: str) -> list[dict[str, object]]:
    """Return the pods that train for a job and have a node."""
    selector = f"fettle.dev/owner-name={name},app.kubernetes.io/component=trainer"
    found = team.get("pods", "--selector", selector)["items"]
    return [pod for pod in found if pod["spec"].get("nodeName")]
