"""Building the Go programs that are missing from the cache: once, whoever asks, and all or nothing.

One `go build` runs at a time. It keeps all processors busy by itself, and two side by side would compile twice what
both need, because the compiler's cache gives only what is finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from devcluster import binaries
from devcluster.errors import DevclusterError
from devcluster.paths import cache_root
from devcluster.shell import last_words, output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devcluster.binaries import GoModule

OLDEST_GO = (1, 24)
SILENCE_S = 30
"""How long a build may run without a line on a log that is not a terminal."""


def ensure(wanted: Sequence[str]) -> dict[str, Path]:
    """Build what is missing of the wanted programs and return where each one lies."""
    for module, members in binaries.group_by_module(wanted):
        if not all(binaries.path(name).exists() for name in members):
            _build(module, members)
    if _compile_cache().exists() and all(binaries.path(name).exists() for name in binaries.names()):
        _forget_compilation()
    return {name: binaries.path(name) for name in wanted}


def _compile_cache() -> Path:
    return cache_root() / "go-build"


def _forget_compilation() -> None:
    """Remove what the compiler kept between builds: six gigabytes that nothing needs before the next new version."""
    with _alone("the last program"):
        shutil.rmtree(_compile_cache(), ignore_errors=True)


def _build(module: GoModule, members: Sequence[str]) -> None:
    folder = binaries.folder_of(module)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(module.name):
        # Asked again under the lock: another caller may have built them while this one waited.
        missing = [name for name in members if not (folder / name).exists()]
        if not missing:
            return
        _check_go()
        for leftover in folder.glob(".building-*"):
            shutil.rmtree(leftover)
        started = time.monotonic()
        # Beside the target, so that the rename stays on one file system.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as made:
            _go_build(module, missing, Path(made))
            for name in missing:
                (Path(made) / name).rename(folder / name)
        seconds = time.monotonic() - started
        for name in missing:
            size_mb = (folder / name).stat().st_size / 1e6
            _say(f"built {name} {module.version} ({size_mb:.0f} MB, {seconds:.0f} s{_shared(missing)})")


def _shared(missing: Sequence[str]) -> str:
    return f" for all {len(missing)}" if len(missing) > 1 else ""


def _go_build(module: GoModule, members: Sequence[str], made: Path) -> None:
    # One `go build` for all programs of a module: they share nearly everything they compile, and link side by side.
    # Several packages need a folder as the target and take their names from the package path; one takes any name.
    target = f"{made}/" if len(members) > 1 else str(made / members[0])
    # The linker strips what debuggers read; making it first would cost a sixth of the compilation.
    command = ["go", "build", "-v", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", module.ldflags]
    command += ["-o", target]
    command += [module.packages[name] for name in members]
    environment = {**_go_settings(), **os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    process = subprocess.Popen(
        command,
        cwd=module.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = _follow(process, f"building {', '.join(members)} {module.version}")
    finally:
        process.kill()
        process.wait()
    if said.exit_code != 0:
        raise DevclusterError(f"building {', '.join(members)} failed: {last_words(said.complaints, 12)}")


def _go_settings() -> dict[str, str]:
    """Return what holds where the user has set nothing else."""
    return {
        # Go's cache is ours, so that it can go once everything is built; one that the user names stays the user's.
        "GOCACHE": str(_compile_cache()),
        # A fifth of the compiler's time is spent on its own garbage; memory is bounded for each process all the same.
        "GOGC": "400",
        "GOMEMLIMIT": "2GiB",
    }


class _Said:
    """What `go build -v` has told so far: a package a line, downloads, and complaints."""

    def __init__(self) -> None:
        self.packages = 0
        self.downloads = 0
        self.complaints = ""
        self.exit_code = -1

    def take(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self.downloads += 1
        elif re.fullmatch(r"[\w.\-/~+]+\n?", line):
            self.packages += 1
        else:
            self.complaints += line


def _follow(process: subprocess.Popen[str], title: str) -> _Said:
    said = _Said()
    started = shown = time.monotonic()
    terminal = sys.stderr.isatty()
    _say(title)
    for line in process.stderr or ():
        said.take(line)
        now = time.monotonic()
        if terminal or now - shown >= SILENCE_S:
            shown = now
            progress = f"  {said.downloads} modules fetched, {said.packages} packages compiled, {now - started:.0f} s"
            _say(progress, over=terminal)
    said.exit_code = process.wait()
    return said


def _say(line: str, *, over: bool = False) -> None:
    """Print a line of progress; on a terminal a line may be written over by the next one."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}" + ("" if over else "\n"))
    else:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _check_go() -> None:
    if shutil.which("go") is None:
        raise DevclusterError(
            "Go is not installed; install Go 1.24 or newer from https://go.dev/dl/ and run the command again"
        )
    found = re.search(r"go(\d+)\.(\d+)", output(["go", "version"]))
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GO:
        raise DevclusterError(
            f"Go {found.group(0)[2:] if found else '?'} is too old; install Go 1.24 or newer from https://go.dev/dl/"
        )


@contextlib.contextmanager
def _alone(builds: str) -> Iterator[None]:
    folder = cache_root() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        # Who waits keeps the next turn, or else a process with one build after the other would let nobody in.
        with (folder / ".next").open("w") as turn:
            if not (_locked(turn) and _locked(lock)):
                lock.seek(0)
                _say(f"waiting for another process that is building {lock.read()}")
                fcntl.flock(turn, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(builds)
        lock.flush()
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
