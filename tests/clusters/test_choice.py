"""Where the product runs: one table."""

import pytest

from clusters.choice import Choice, Machine, choose
from clusters.errors import ClustersError

KNOWN = frozenset({"prod", "kind-fettle"})


@pytest.mark.parametrize(
    ("machine", "choice"),
    [
        (Machine(is_root=True), Choice("devcluster")),
        (Machine(engine="docker"), Choice("kind", engine="docker")),
        (Machine(engine="podman", is_root=True), Choice("kind", engine="podman")),
        (Machine(engine="docker", is_linux=False), Choice("kind", engine="docker")),
        # What runs stays the choice.
        (Machine(engine="docker", is_root=True, running="devcluster"), Choice("devcluster")),
        (Machine(engine="docker", running="devcluster"), Choice("kind", engine="docker")),
        (Machine(engine="podman", is_root=True, running="kind"), Choice("kind", engine="podman")),
        # An explicit context wins over everything that the machine offers.
        (
            Machine(
                context="kind-fettle",
                known_contexts=KNOWN,
                own_contexts=frozenset({"kind-fettle"}),
                engine="docker",
            ),
            Choice("context", context="kind-fettle", engine="docker"),
        ),
        (
            Machine(context="prod", known_contexts=KNOWN, allow_foreign=True, is_root=True),
            Choice("context", context="prod"),
        ),
    ],
    ids=[
        "root on Linux gets the embedded cluster",
        "Docker gets kind",
        "an engine comes before the embedded cluster",
        "Docker on another system gets kind",
        "a running embedded cluster stays although Docker answers",
        "an embedded cluster of root does not bind a user with Docker",
        "a running kind cluster stays",
        "a context of our own needs no permission",
        "a foreign context is used when allowed",
    ],
)
def test_the_machine_decides_where_the_product_runs(machine: Machine, choice: Choice) -> None:
    assert choose(machine) == choice


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (Machine(), ["neither Docker nor Podman answers", "needs root", "FETTLE_CONTEXT"]),
        (
            Machine(is_linux=False, is_root=True),
            ["neither Docker nor Podman answers", "needs Linux", "FETTLE_CONTEXT"],
        ),
        (
            Machine(context="prod", known_contexts=KNOWN, is_root=True, engine="docker"),
            ["'prod'", "not created here", "FETTLE_ALLOW_CONTEXT=1", "--allow-foreign"],
        ),
        (
            Machine(context="prdo", known_contexts=KNOWN, allow_foreign=True),
            ["'prdo'", "kind-fettle, prod"],
        ),
        (
            Machine(is_root=True, running="kind"),
            ["kind cluster", "neither Docker nor Podman", "start the engine"],
        ),
    ],
    ids=[
        "a user without an engine",
        "another system",
        "a foreign context",
        "a typing error",
        "a stopped engine",
    ],
)
def test_a_refusal_is_one_line_that_names_what_is_missing(machine: Machine, says: list[str]) -> None:
    with pytest.raises(ClustersError) as refusal:
        choose(machine)
    text = str(refusal.value)
    assert "\n" not in text
    assert [part for part in says if part not in text] == []
