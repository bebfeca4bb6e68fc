"""The page that explains reasons names every reason of the code, and no other."""

import re
from pathlib import Path

from fettle_operator.labels import IN_USE_FINALIZER
from fettle_operator.reasons import Reason

PAGE = (Path(__file__).parents[2] / "docs/reference/conditions.md").read_text()


def test_every_reason_is_explained_and_no_other() -> None:
    table = PAGE[PAGE.index("| reason |") : PAGE.index("## When a deletion hangs")]

    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == {
        reason.value for reason in Reason
    }


def test_the_finalizer_that_holds_a_deletion_is_named() -> None:
    assert IN_USE_FINALIZER in PAGE
