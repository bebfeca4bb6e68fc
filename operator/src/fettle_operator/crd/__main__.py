"""Write the CustomResourceDefinitions, or check that the written ones are up to date."""

import argparse
import sys
from pathlib import Path

from fettle_operator.api.kinds import KINDS
from fettle_operator.crd.files import files_of, stale_files


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when OUTDIR holds exactly the generated files at the end."""
    parser = argparse.ArgumentParser(prog="python -m fettle_operator.crd", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when a file is not up to date"
    )
    parser.add_argument("outdir", type=Path, metavar="OUTDIR", help="the folder of the files, such as crds/")
    options = parser.parse_args(arguments)
    files = files_of(KINDS)
    stale = stale_files(options.outdir, files)
    if options.check:
        if stale:
            sys.stderr.write(f"not as generated: {', '.join(stale)}; run `make crds` and commit the result\n")
        return 1 if stale else 0
    options.outdir.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in files:
            (options.outdir / name).write_text(files[name], encoding="utf-8")
        else:
            (options.outdir / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
