"""`make-base`: make a tiny chat model for demos and tests, in minutes, on a CPU, without a hub."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.base.recipe import Recipe
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser("make-base", help="make a tiny chat model for demos", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the folder to make")
    parser.add_argument("--steps", type=_positive, default=Recipe.steps, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="default: %(default)s")
    parser.add_argument(
        "--threads",
        type=_positive,
        default=Recipe.threads,
        help="the model depends on it; default: %(default)s",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the model or take it from the cache, and print its folder."""
    # Only here: `--help` and a wrong argument need not wait for torch.
    from fettle_trainer.base.make import cache_folder, copy_to, make_base  # noqa: PLC0415 - see above

    recipe = Recipe(steps=arguments.steps, seed=arguments.seed, threads=arguments.threads)
    try:
        made = make_base(recipe, cache_folder(os.environ), _progress(recipe.steps))
        copy_to(made, arguments.output)
    except WrongInputError as error:
        tell(f"{error.code}: {error.message}")
        return ExitCode.WRONG_INPUT
    except OSError as error:
        tell(f"The model could not be written to {error.filename}: {error.strerror}.")
        return ExitCode.INCOMPLETE
    answer(str(arguments.output))
    return ExitCode.DONE


def _progress(steps: int) -> Callable[[int, float], None]:
    """Return what tells a tenth of the way at a time."""
    begun = time.monotonic()
    every = max(1, steps // 10)

    def on_step(step: int, loss: float) -> None:
        if step % every == 0 or step == steps:
            tell(f"step {step} of {steps}, loss {loss:.3f}, {time.monotonic() - begun:.0f} s")

    return on_step


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = "it must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return number
