"""Write the CustomResourceDefinitions, or check that the written ones are up to date."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from fettle_operator.api.kinds import KINDS
from fettle_operator.crd.files import files_of, stale_files


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when each OUTDIR holds exactly the generated files at the end."""
    parser = argparse.ArgumentParser(prog="python -m fettle_operator.crd", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when a file is not up to date"
    )
    parser.add_argument(
        "outdirs", type=Path, nargs="+", metavar="OUTDIR", help="a folder of the files, such as crds/"
    )
    options = parser.parse_args(arguments)
    files = files_of(KINDS)
    if options.check:
        return _check(options.outdirs, files)
    for folder in options.outdirs:
        _write(folder, files)
    return 0


def _check(folders: Iterable[Path], files: Mapping[str, str]) -> int:
    stale = [str(folder / name) for folder in folders for name in stale_files(folder, files)]
    if stale:
        sys.stderr.write(f"not as generated: {', '.join(stale)}; run `make crds` and commit the result\n")
    return 1 if stale else 0


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale_files(folder, files):
        if name in files:
            (folder / name).write_text(files[name], encoding="utf-8")
        else:
            (folder / name).unlink()


if __name__ == "__main__":
    sys.exit(main())
