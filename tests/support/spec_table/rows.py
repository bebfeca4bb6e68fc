"""One row of the table, and how a spec is changed at a path."""

import copy
import re
from dataclasses import dataclass
from typing import Any

REMOVE = object()
"""As a value: take the field away."""

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Row:
    """An object and the verdict on it."""

    title: str
    kind: str
    spec: Any
    accepted: bool | None
    """None: whatever the API server says, the model must say the same."""
    blames: str = ""
    """The path, from `spec` on, that a refusal must name."""
    says: str = ""
    """Words that a refusal must contain."""

    @property
    def manifest(self) -> dict[str, Any]:
        """The whole object."""
        return {
            "apiVersion": "fettle.dev/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": "row"},
            "spec": self.spec,
        }


def changed(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of the spec with another value at a path such as `dataset.train[0].volume`."""
    result = copy.deepcopy(spec)
    *way, last = [index if name == "" else name for name, index in _PART.findall(path)]
    place: Any = result
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if value is REMOVE:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return result


def value_at(spec: Any, path: str) -> Any:
    """Return the value at a path."""
    for name, index in _PART.findall(path):
        spec = spec[int(index)] if name == "" else spec[name]
    return spec
