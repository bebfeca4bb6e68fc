"""The operator process: reads the flags and the environment, and nothing else does.

Exit codes: 0 stopped by a signal, 1 the API server refuses us or lacks the CRDs (Kubernetes starts the
process again), 2 the configuration is wrong.
"""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from fettle_operator.cluster import load_credentials
from fettle_operator.errors import InvalidConfiguration
from fettle_operator.logs import configure_logging
from fettle_operator.settings import load_settings
from fettle_operator.wiring import startup

__all__ = ["main"]


def main() -> None:
    """Run the operator."""
    flags = _parser().parse_args()
    try:
        settings = load_settings(flags.config)
        credentials = load_credentials(flags.kubeconfig)
    except InvalidConfiguration as error:
        sys.exit(_say(str(error)))
    configure_logging(settings.log)
    ports = startup.Ports(flags.probes_port, flags.metrics_port)
    try:
        asyncio.run(startup.run(settings, credentials, ports))
    except Exception as error:  # noqa: BLE001 - whatever ended the process is told in a sentence
        logging.getLogger(__name__).critical("ended: %s: %s", type(error).__name__, error)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fettle-operator", description="Fettle's control plane.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration file")
    kubeconfig = os.environ.get("KUBECONFIG")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        default=Path(kubeconfig) if kubeconfig else None,
        metavar="FILE",
        help="how to reach the API server from outside the cluster (default: $KUBECONFIG, then the pod's account)",
    )
    parser.add_argument(
        "--probes-port", type=int, default=8080, metavar="PORT", help="where /healthz answers"
    )
    parser.add_argument(
        "--metrics-port", type=int, default=9090, metavar="PORT", help="where /metrics answers"
    )
    return parser


def _say(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    main()
