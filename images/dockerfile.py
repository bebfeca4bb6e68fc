"""Reads from a Dockerfile which files of the repository a target is made of. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class _Stage:
    uses: set[str] = field(default_factory=set)
    copies: list[str] = field(default_factory=list)


def sources(text: str, target: str) -> list[str]:
    """Return what the target and the stages below it copy out of the repository, sorted."""
    stages = _stages(text)
    if target not in stages:
        raise ValueError(f"the Dockerfile has no stage {target!r}")
    reached: set[str] = set()
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in stages and name not in reached:
            reached.add(name)
            waiting.extend(stages[name].uses)
    return sorted({source for name in reached for source in stages[name].copies})


def _stages(text: str) -> dict[str, _Stage]:
    stages: dict[str, _Stage] = {}
    current = _Stage()
    for line in _instructions(text):
        words = line.split()
        if words[0] == "FROM":
            current = _Stage(uses={words[1]})
            stages[words[3]] = current
        current.uses.update(re.findall(r"[ ,]?--?\S*?from=([\w.-]+)", line))
        if words[0] == "COPY" and not words[1].startswith("--from="):
            current.copies.extend(words[1:-1])
    return stages


def _instructions(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]
