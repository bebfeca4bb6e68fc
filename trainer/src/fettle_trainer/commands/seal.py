"""`seal`: check an adapter made elsewhere and write its manifest.json, so that it can be imported whole.

The directory is what PEFT's save_pretrained wrote: adapter_config.json, adapter_model.safetensors and, if you
want prompts to be rendered as in training, chat_template.jinja. The manifest records the SHA-256 of every file;
from then on `verify` refuses the directory if anything in it is changed, missing or added.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from fettle_trainer.adapter import report
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.seal import Provenance, seal_adapter
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.config.exit_codes import ExitCode


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "seal",
        help="write the manifest of an adapter made elsewhere",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="the adapter, as PEFT saved it")
    parser.add_argument("--base-model", help="the model it belongs to (default: base_model_name_or_path)")
    parser.add_argument("--base-model-digest", type=_digest, help="sha256:… of that model, if known")
    parser.add_argument("--dataset-digest", type=_digest, help="sha256:… of the training data, if known")
    parser.add_argument(
        "--metric", type=_metric, action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    parser.add_argument("--replace", action="store_true", help="replace a manifest that is already there")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Seal, and print the digest that names the adapter."""
    provenance = Provenance(
        base_model=arguments.base_model,
        base_model_digest=arguments.base_model_digest,
        dataset_digest=arguments.dataset_digest,
        metrics=dict(arguments.metric),
    )
    try:
        manifest = seal_adapter(arguments.directory, provenance, replace=arguments.replace)
    except AdapterRefusedError as error:
        tell(f"refused: {error.code}: {error.message}")
        return ExitCode.WRONG_INPUT
    except Exception as error:  # noqa: BLE001 - a user gets a sentence, never a traceback
        tell(f"failed: {report.sentence(error)}")
        return ExitCode.INCOMPLETE
    answer(manifest.digest)
    return ExitCode.DONE


def _digest(text: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        msg = "a digest is 'sha256:' and 64 lower-case hexadecimal digits"
        raise argparse.ArgumentTypeError(msg)
    return text


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name or len(name) > 63 or not math.isfinite(number):
        msg = "a metric is NAME=VALUE with a finite number, for example evalLoss=1.25"
        raise argparse.ArgumentTypeError(msg)
    return name, number
