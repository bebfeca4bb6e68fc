"""What a contender uses: CPU and memory of its process and of all that it has started; and load from wrk."""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contenders import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT: Final = "/v1/chat/completions"
QUESTION: Final = json.dumps({"model": "bot", "messages": [{"role": "user", "content": "x" * 1500}]})
_SCRIPT: Final = """
local requests, n = {}, 0
init = function()
  for i = 1, 1000 do
    requests[i] = wrk.format("POST", "%s", {
      ["Host"] = "bot", ["Content-Type"] = "application/json",
      ["Authorization"] = "Bearer %s", ["x-session-id"] = "user-" .. i}, [[%s]])
  end
end
request = function() n = n + 1; return requests[n %% 1000 + 1] end
done = function(summary, latency)
  local bad = summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(summary.requests, " ", bad, " ", latency:percentile(50), " ", latency:percentile(99), "\\n")
end
"""


class WrongAnswersError(Exception):
    """A measurement that means nothing, because not every answer was right."""


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load."""

    requests: int
    per_second: float
    cpu_us: float
    """CPU time of the contender per request."""
    p50_us: float
    p99_us: float


def load(port: int, pid: int, folder: Path, *, connections: int, seconds: int) -> Load:
    """Send as many requests as are answered."""
    script = folder / "post.lua"
    script.write_text(_SCRIPT % (CHAT, KEY, QUESTION))
    before, began = cpu_s(pid), time.monotonic()
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    done = subprocess.run([*words, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True)
    elapsed, used = time.monotonic() - began, cpu_s(pid) - before
    requests, bad, p50, p99 = (float(word) for word in done.stdout.splitlines()[-1].split())
    if bad or not requests:
        raise WrongAnswersError(f"{bad:.0f} of {requests:.0f} requests were not answered with 200")
    return Load(int(requests), requests / elapsed, used / requests * 1e6, p50, p99)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and its descendants have used."""
    return sum(_cpu_of(each) for each in _family(pid))


def memory_mib(pid: int) -> float:
    """Return the memory that a process and its descendants hold, what they share counted in shares."""
    return sum(_pss_kib(each) for each in _family(pid)) / 1024


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))
