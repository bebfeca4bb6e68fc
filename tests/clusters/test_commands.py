"""The commands as a user runs them, with stand-ins for docker, kind and kubectl that write down how they were called."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STAND_IN = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
name = Path(__file__).name
words = " ".join(sys.argv[1:])
with (here / "calls").open("a") as calls:
    print(name, words, file=calls)
for rule in json.loads((here / f"{{name}}.json").read_text()):
    if rule["on"] in words:
        print(rule.get("says", ""))
        if rule.get("takes"):
            (here / rule["takes"]).write_text(sys.stdin.read())
        sys.exit(rule.get("code", 0))
"""


def _kubeconfig(context: str, authority: str = "Q0E=") -> str:
    return json.dumps(
        {
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "clusters": [
                {
                    "name": context,
                    "cluster": {"server": "https://x:1", "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": context, "user": {}}],
        }
    )


@dataclass
class Desk:
    """A machine made of stand-ins."""

    programs: Path
    state: Path
    environment: dict[str, str] = field(default_factory=dict)

    def program(self, name: str, *rules: dict[str, object]) -> None:
        (self.programs / name).write_text(STAND_IN)
        (self.programs / name).chmod(0o755)
        (self.programs / f"{name}.json").write_text(json.dumps(rules))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "clusters", *arguments],
            cwd=ROOT,
            env={
                "PATH": f"{self.programs}:/usr/bin:/bin",
                "XDG_STATE_HOME": str(self.state),
                **self.environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self, program: str) -> list[str]:
        lines = (self.programs / "calls").read_text().splitlines()
        return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "bin").mkdir()
    made = Desk(tmp_path / "bin", tmp_path / "state")
    made.program("docker", {"on": "", "code": 1})
    made.program("podman", {"on": "", "code": 1})
    return made


@pytest.fixture
def with_docker(desk: Desk) -> Desk:
    desk.program(
        "docker",
        {"on": "info", "says": "28.0"},
        {"on": "NetworkSettings", "says": "{}"},
        {"on": "container inspect", "code": 1},
        {"on": "hosts.toml", "takes": "hosts.toml"},
        {"on": ""},
    )
    desk.program("kind", {"on": "get nodes", "says": "fettle-control-plane\nfettle-worker"}, {"on": ""})
    desk.program("kubectl", {"on": "config view", "says": _kubeconfig("kind-fettle")}, {"on": ""})
    return desk


def test_kind_is_created_and_its_nodes_learn_where_our_images_are(with_docker: Desk) -> None:
    done = with_docker.run("up")
    assert done.returncode == 0, done.stderr
    kubeconfig = with_docker.state / "fettle" / "kind.kubeconfig"
    assert with_docker.calls("kind") == [
        "get clusters",
        f"create cluster --name fettle --config {ROOT}/kind-config.yaml --wait 180s --kubeconfig {kubeconfig}",
        "get nodes --name fettle",
    ]
    docker = with_docker.calls("docker")
    assert (
        "run --detach --name=fettle-registry --publish=127.0.0.1:5001:5000 "
        "--volume=fettle-registry:/var/lib/registry docker.io/library/registry:3.0.0"
    ) in docker
    assert "network connect kind fettle-registry" in docker
    assert [line.split()[2] for line in docker if line.startswith("exec -i")] == [
        "fettle-control-plane",
        "fettle-worker",
    ]
    assert '[host."http://fettle-registry:5000"]' in (with_docker.programs / "hosts.toml").read_text()


def test_a_kind_cluster_that_is_there_is_kept(with_docker: Desk) -> None:
    with_docker.program(
        "kind",
        {"on": "get clusters", "says": "fettle\nother"},
        {"on": "get nodes", "says": "fettle-control-plane"},
        {"on": ""},
    )
    assert with_docker.run("up").returncode == 0
    assert not [line for line in with_docker.calls("kind") if line.startswith("create")]


def test_down_deletes_the_kind_cluster_of_that_name_only(with_docker: Desk) -> None:
    with_docker.run("up")
    assert with_docker.run("down").returncode == 0
    assert [line for line in with_docker.calls("kind") if line.startswith("delete")] == [
        f"delete cluster --name fettle --kubeconfig {with_docker.state}/fettle/kind.kubeconfig"
    ]


def test_fake_gpus_are_written_into_the_status_of_every_node(with_docker: Desk) -> None:
    with_docker.program(
        "kubectl",
        {"on": "config view", "says": _kubeconfig("kind-fettle")},
        {"on": "get nodes", "says": "node/fettle-worker"},
        {"on": ""},
    )
    assert with_docker.run("up", "--fake-gpus", "4").returncode == 0
    (patch,) = [line for line in with_docker.calls("kubectl") if "patch" in line]
    assert "patch node/fettle-worker --subresource=status" in patch
    assert '"nvidia.com/gpu": "4"' in patch


def test_the_kubeconfig_command_prints_the_path_and_nothing_else(with_docker: Desk) -> None:
    done = with_docker.run("kubeconfig")
    assert done.stdout == f"{with_docker.state}/fettle/kind.kubeconfig\n"
    assert done.stderr == ""


def test_a_foreign_context_is_refused_and_nothing_is_called_on_it(with_docker: Desk) -> None:
    with_docker.program("kubectl", {"on": "config view", "says": _kubeconfig("prod", "T1RIRVI=")}, {"on": ""})
    with_docker.environment["FETTLE_CONTEXT"] = "prod"
    done = with_docker.run("up")
    assert done.returncode == 1
    assert "'prod' leads to a cluster that was not created here" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [line for line in with_docker.calls("kubectl") if not line.startswith("config view")] == []


@pytest.mark.parametrize(
    "allow",
    [
        lambda desk: desk.environment.update(FETTLE_ALLOW_CONTEXT="1") or ["up"],
        lambda _: ["up", "--allow-foreign"],
    ],
    ids=["by the environment", "by the option"],
)
def test_a_foreign_context_is_used_when_that_was_said(
    with_docker: Desk, allow: Callable[[Desk], list[str]]
) -> None:
    with_docker.program("kubectl", {"on": "config view", "says": _kubeconfig("prod", "T1RIRVI=")}, {"on": ""})
    with_docker.environment["FETTLE_CONTEXT"] = "prod"
    assert with_docker.run(*allow(with_docker)).returncode == 0
    assert "--context=prod get --raw=/readyz" in with_docker.calls("kubectl")


def test_a_cluster_that_was_created_here_may_be_named_under_any_context(with_docker: Desk) -> None:
    with_docker.run("up")
    # The same cluster, address and authority, under another name in the user's own kubeconfig.
    with_docker.program("kubectl", {"on": "config view", "says": _kubeconfig("mine")}, {"on": ""})
    with_docker.environment["FETTLE_CONTEXT"] = "mine"
    assert with_docker.run("choose").stdout == "context mine\n"


def test_a_context_of_the_same_name_on_another_cluster_is_foreign(with_docker: Desk) -> None:
    with_docker.run("up")
    with_docker.program(
        "kubectl", {"on": "config view", "says": _kubeconfig("kind-fettle", "T1RIRVI=")}, {"on": ""}
    )
    with_docker.environment["FETTLE_CONTEXT"] = "kind-fettle"
    assert with_docker.run("choose").returncode == 1


def test_a_named_cluster_is_never_removed(with_docker: Desk) -> None:
    with_docker.program("kubectl", {"on": "config view", "says": _kubeconfig("prod")}, {"on": ""})
    with_docker.environment |= {"FETTLE_CONTEXT": "prod", "FETTLE_ALLOW_CONTEXT": "1"}
    done = with_docker.run("down")
    assert done.returncode == 1
    assert "never removed" in done.stderr
    assert not (with_docker.programs / "calls").read_text().count("delete")


def test_the_kubeconfig_of_a_named_context_leads_nowhere_else(with_docker: Desk) -> None:
    with_docker.program("kubectl", {"on": "config view", "says": _kubeconfig("prod")}, {"on": ""})
    with_docker.environment |= {"FETTLE_CONTEXT": "prod", "FETTLE_ALLOW_CONTEXT": "1"}
    path = Path(with_docker.run("kubeconfig").stdout.strip())
    assert json.loads(path.read_text())["current-context"] == "prod"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "config view --output=json --minify --flatten --raw --context=prod" in with_docker.calls("kubectl")


def test_a_named_cluster_needs_a_named_registry(with_docker: Desk) -> None:
    with_docker.program("kubectl", {"on": "config view", "says": _kubeconfig("prod")}, {"on": ""})
    with_docker.environment |= {"FETTLE_CONTEXT": "prod", "FETTLE_ALLOW_CONTEXT": "1"}
    assert "FETTLE_REGISTRY" in with_docker.run("registry").stderr
    with_docker.environment["FETTLE_REGISTRY"] = "registry.corp:5000"
    assert with_docker.run("registry").stdout == "registry.corp:5000\n"


def test_podman_is_asked_when_docker_is_silent(with_docker: Desk) -> None:
    with_docker.program("docker", {"on": "", "code": 1})
    with_docker.program("podman", {"on": "info", "says": "5.0"}, {"on": ""})
    assert with_docker.run("choose").stdout == "kind (podman)\n"


def test_a_user_without_an_engine_reads_in_one_sentence_what_is_missing(desk: Desk) -> None:
    # Imported first: an unprivileged user may not be able to read this interpreter's own library.
    program = "import os, sys; from clusters.cli import main; os.geteuid() or os.setuid(65534); sys.exit(main(['choose']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": str(desk.programs), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "neither Docker nor Podman answers, and the embedded cluster needs root" in done.stderr
