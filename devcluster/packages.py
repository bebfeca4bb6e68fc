"""What a cluster needs of the machine: Linux, root, and a few Debian packages."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.shell import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INSTALL_TIMEOUT_S = 900
CNI_PLUGINS = Path("/usr/lib/cni")
BUSYBOX = Path("/bin/busybox")

# Program (or file) to the Debian package that brings it.
NEEDED: Mapping[str, str] = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "nft": "nftables",
    "iptables": "iptables",  # the CNI plugin for host ports speaks nothing else
    "conntrack": "conntrack",
    "openssl": "openssl",
    "modprobe": "kmod",  # the kernel loads what a network device or a firewall rule needs with it
    str(BUSYBOX): "busybox-static",
}


def check_machine() -> None:
    """Refuse, in one sentence, a machine or a user that cannot carry a cluster."""
    if sys.platform != "linux":
        raise DevclusterError(
            "a development cluster needs Linux; on other systems use kind with Docker or Podman"
        )
    if os.geteuid() != 0:
        raise DevclusterError(
            "a development cluster needs root; run the command as root, or use kind with Docker"
        )


def install_missing() -> None:
    """Install the Debian packages that are missing."""
    packages = missing_packages([name for name in NEEDED if not _is_there(name)])
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise DevclusterError(
            f"programs are missing, and there is no apt-get to install them with; install {', '.join(packages)}"
        )
    sys.stderr.write(f"installing {', '.join(packages)}\n")
    wait_for_others = ("-o", f"DPkg::Lock::Timeout={_INSTALL_TIMEOUT_S}")
    environment = ("env", "DEBIAN_FRONTEND=noninteractive")
    run(["apt-get", *wait_for_others, "update", "-qq"], timeout_s=_INSTALL_TIMEOUT_S)
    run(
        [
            *environment,
            "apt-get",
            *wait_for_others,
            "install",
            "-qq",
            "-y",
            "--no-install-recommends",
            *packages,
        ],
        timeout_s=_INSTALL_TIMEOUT_S,
    )


def missing_packages(missing: Sequence[str]) -> list[str]:
    """Return the packages that bring the missing programs, each once."""
    return sorted({NEEDED[name] for name in missing})


def _is_there(name: str) -> bool:
    if name == str(BUSYBOX):
        # Debian's other busybox is linked dynamically and is no use in an image of its own.
        return BUSYBOX.exists() and b"/ld-linux" not in BUSYBOX.read_bytes()
    return shutil.which(name) is not None
