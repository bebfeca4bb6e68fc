"""What is rendered: the golden configuration, what needs a reload and what does not, and HAProxy's own opinion."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fettle_router.layout import Layout
from fettle_router.process import check
from fettle_router.render import Rendered, render
from fettle_router.slots import Endpoint, assign
from router_support.running import require_haproxy
from router_support.tables import bounds, client, main, revision, table

GOLDEN = Path(__file__).parent / "data"
LAYOUT = Layout(Path("/run/fettle"))
PODS = assign((), [Endpoint("10.0.0.7", 8000), Endpoint("fd00::7", 8000)])


def rendered(layout: Layout = LAYOUT, **changes: Any) -> Rendered:
    return render(table(**changes), {"pool-a": PODS}, layout)


def test_the_configuration_is_the_one_that_was_reviewed() -> None:
    """FETTLE_WRITE_GOLDENS=1 writes the files anew; review the difference."""
    result = rendered()
    files = {"haproxy.cfg": result.configuration} | {
        f"{name}.map": "".join(f"{key} {value}\n" for key, value in entries.items())
        for name, entries in result.maps.items()
    }
    if os.environ.get("FETTLE_WRITE_GOLDENS"):
        GOLDEN.mkdir(exist_ok=True)
        for name, text in files.items():
            (GOLDEN / name).write_text(text)

    assert files == {path.name: path.read_text() for path in GOLDEN.iterdir()}


SAME_STRUCTURE: list[dict[str, Any]] = [
    {"version": 7},
    {"arms": [main(9999, 2500)]},
    {"arms": [main(9999)]},
    {"rolloutSalt": "rollout-2"},
    {"pins": {"rev-a": "rev-b"}},
    {"models": ["another"]},
    {"limits": {"requestsPerMinute": 5, "concurrency": 1}},
    {"access": {"clients": [client("new", "key")]}},
    {"revisions": [revision(name) for name in ("rev-a", "rev-b", "rev-c", "rev-d", "rev-e")]},
]
ANOTHER_STRUCTURE: list[dict[str, Any]] = [
    {"sticky": {"header": "x-user"}},
    {"sticky": {"byClient": False}},
    {"access": {"mode": "open"}},
    {"variantSalt": "other"},
]


@pytest.mark.parametrize("change", SAME_STRUCTURE, ids=[str(change)[:40] for change in SAME_STRUCTURE])
def test_everyday_changes_need_no_reload(change: dict[str, Any]) -> None:
    assert rendered(**change).structure == rendered().structure
    assert rendered(**change).maps != rendered().maps


@pytest.mark.parametrize("change", ANOTHER_STRUCTURE, ids=[str(change)[:40] for change in ANOTHER_STRUCTURE])
def test_another_rule_is_another_structure(change: dict[str, Any]) -> None:
    assert rendered(**change).structure != rendered().structure


def test_pods_that_come_and_go_need_no_reload_until_the_slots_run_out() -> None:
    def structure(count: int) -> str:
        pods = [Endpoint("10.0.0.1", port) for port in range(1, count + 1)]
        return render(table(), {"pool-a": assign((), pods)}, LAYOUT).structure

    assert structure(0) == structure(8) != structure(9)


def test_a_new_certificate_is_another_structure() -> None:
    structures = {
        rendered(replace(LAYOUT, certificate=certificate)).structure
        for certificate in (None, Path("/run/fettle/tls-1.pem"), Path("/run/fettle/tls-2.pem"))
    }

    assert len(structures) == 3


def test_no_value_of_a_table_can_end_a_line_or_a_word() -> None:
    result = rendered()

    for entries in result.maps.values():
        for key, value in entries.items():
            assert not set(key + value) & set(" \n\r\t;\\#")


FULL: list[dict[str, Any]] = [
    {},
    {"access": {"mode": "open"}, "sticky": {"header": "x-user", "byClient": False}},
    {
        "arms": [
            main(0),
            *({"name": f"v{n}", "bounds": bounds(n, n), "revision": "rev-c"} for n in range(1, 31)),
            {"name": "v31", "bounds": bounds(31, 9999), "revision": "rev-c"},
        ],
        "pins": {f"p{n}": "rev-a" for n in range(128)},
        "models": [f"m{'x' * 120}/{n}" for n in range(16)],
    },
]


@pytest.mark.parametrize("change", FULL, ids=["usual", "open", "as large as it gets"])
async def test_haproxy_accepts_what_is_rendered(change: dict[str, Any], tmp_path: Path) -> None:
    require_haproxy()
    layout = Layout(tmp_path)

    await check(rendered(layout, **change), layout)
