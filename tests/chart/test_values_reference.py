"""The installation guide tells every value, with the default and the meaning that the chart has."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from helm_chart import CHART, ROOT
from values_reference import END, START, UndocumentedValueError, documented, table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = ROOT / "docs" / "guides" / "install.md"


def test_the_table_of_the_guide_is_the_one_made_from_the_schema() -> None:
    """Rewritten by UPDATE_GOLDEN=1."""
    text = GUIDE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    if os.environ.get("UPDATE_GOLDEN"):
        GUIDE.write_text(before + START + table() + END + after)

    assert START + table() + END in GUIDE.read_text()


def test_every_default_value_stands_in_the_table() -> None:
    told = documented()
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    for path in leaves(defaults, ()):
        parents = {".".join(path[:length]) for length in range(1, len(path) + 1)}
        assert parents & told, f"{'.'.join(path)} is not documented"


def test_every_value_of_the_schema_has_a_default() -> None:
    """What has no default in values.yaml would be invisible to `helm show values`; Helm itself sets `global`."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    assert set(schema["properties"]) - {"global"} == set(defaults)
    for name in documented() - {"global"}:
        if "NAME" not in name:
            assert has(defaults, name.split(".")), f"{name} has no default"


def test_a_value_without_a_description_is_refused() -> None:
    schema = {"properties": {"told": {"description": "Yes."}, "untold": {"type": "string"}}}

    with pytest.raises(UndocumentedValueError, match="untold has no description"):
        table_of(schema, {})


def leaves(node: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        name = "NAME" if above == ("profiles",) else key
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name)


def has(node: Any, path: list[str]) -> bool:
    for name in path:
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True
