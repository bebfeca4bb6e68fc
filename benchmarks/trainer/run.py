"""How fast this trainer is beside plain transformers with peft and TRL: same model, same rows, same machine, one run.

`$(scripts/model_venv.sh) benchmarks/trainer/run.py` prints a table for rows of uneven and of equal length. Every
contender runs in a process of its own; they take turns, so that whatever else the machine does meets all of them.
"""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONTENDERS = ("fettle", "hf", "trl", "trl-grouped", "trl-padding-free", "trl-packed")
PATTERNS = ("uneven", "fixed")
COLUMNS = ("tokens_per_s", "startup_s", "peak_mib")

Results = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Measure, and print what was seen."""
    arguments = _arguments()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, {arguments.threads} threads, load {os.getloadavg()}"
    )
    with tempfile.TemporaryDirectory(prefix="fettle-benchmark-") as scratch:
        folder = Path(scratch)
        _prepare(folder, arguments.rows)
        for pattern in arguments.patterns:
            print(
                f"\n## {pattern} lengths, {arguments.rows} rows, {arguments.batch} for each step\n",
                flush=True,
            )
            _print(_rounds(folder, pattern, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=PATTERNS)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    return parser.parse_args()


def _prepare(folder: Path, rows: int) -> None:
    program = (
        "import sys; from pathlib import Path; import workload\n"
        "workload.write_model(Path(sys.argv[1]) / 'model')\n"
        "for p in workload.PATTERNS:\n"
        "    workload.write_rows(Path(sys.argv[1]) / f'{p}.jsonl', p, int(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", program, folder, str(rows)], check=True, cwd=HERE, capture_output=True
    )


def _rounds(folder: Path, pattern: str, arguments: argparse.Namespace) -> Results:
    results: Results = {name: [] for name in arguments.contenders}
    for turn in range(arguments.rounds):
        # Everybody is first once in a while.
        for name in arguments.contenders[turn:] + arguments.contenders[:turn]:
            result = _run(name, folder, pattern, arguments)
            results[name].append(result)
            print(f"round {turn + 1}: {name}: {json.dumps(result)}", file=sys.stderr, flush=True)
    return results


def _run(name: str, folder: Path, pattern: str, arguments: argparse.Namespace) -> dict[str, Any]:
    program = HERE / f"contender_{name.partition('-')[0]}.py"
    words = [str(folder / "model"), str(folder / f"{pattern}.jsonl"), str(arguments.batch)]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(arguments.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT / "trainer/src"),
        # The others are installed with their bytecode; this trainer's is kept by the run that prepares.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    done = subprocess.run(
        [sys.executable, program, *words, *([name] if name.startswith("trl") else [])],
        env=environment,
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


def _print(results: Results) -> None:
    medians = {
        name: {column: statistics.median(result[column] for result in rounds) for column in COLUMNS}
        for name, rounds in results.items()
    }
    print("| contender | tokens/s | to the first step, s | peak MiB | tokens | steps | mean loss |")
    print("|---|---|---|---|---|---|---|")
    for name, found in medians.items():
        last = results[name][-1]
        print(
            f"| {name} | {found['tokens_per_s']:,.0f} | {found['startup_s']:.1f} | {found['peak_mib']:,.0f} "
            f"| {last['tokens']:,} | {last['steps']} | {last['loss']:.3f} |"
        )
    if "fettle" not in medians:
        return
    own = results["fettle"]
    for name, rounds in results.items():
        if name != "fettle":
            ratios = sorted(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(own, rounds, strict=True))
            shown = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"\nfettle / {name}: {shown} times the tokens/s of the same round")


if __name__ == "__main__":
    main()
