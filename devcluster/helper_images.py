"""The container images a cluster needs for itself, made from Debian's static busybox alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUSYBOX_IMAGE = "fettle.dev/devcluster/busybox:1"
"""A shell and the usual small programs: for volumes, and for tests."""
PUBLIC_BUSYBOX_IMAGE = "docker.io/library/busybox:1.35"
"""The same under its public name (1.35 is what Debian 12 packs), so that examples run where nothing can be pulled."""
PAUSE_IMAGE = "fettle.dev/devcluster/pause:1"
"""The container that holds a pod's namespaces."""
_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Archive:
    """An OCI image layout in a tar file, as `ctr images import` takes it."""

    content: bytes
    digests: Mapping[str, str]
    """Image name to the digest of its manifest."""


def archive(busybox: bytes, applets: Sequence[str], machine: str) -> Archive:
    """Return the images; the same input gives the same digests."""
    tar = _layer(busybox, applets)
    # No time stamp in the compressed file, so that its digest depends on the content alone.
    layer = gzip.compress(tar, mtime=0)
    blobs = {_digest(layer): layer}
    entries: list[dict[str, Any]] = []
    for name, command in (
        (BUSYBOX_IMAGE, ["/bin/sh"]),
        (PUBLIC_BUSYBOX_IMAGE, ["/bin/sh"]),
        (PAUSE_IMAGE, ["/bin/sleep", "inf"]),
    ):
        config = _json(
            {
                "architecture": _ARCHITECTURES.get(machine, machine),
                "os": "linux",
                "config": {"Cmd": command, "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
            }
        )
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _described(config, _IMAGE_CONFIG),
                "layers": [_described(layer, _LAYER)],
            }
        )
        blobs |= {_digest(config): config, _digest(manifest): manifest}
        entries.append(_described(manifest, _MANIFEST) | {"annotations": {"io.containerd.image.name": name}})
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": entries}),
        **{f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()},
    }
    names = {str(entry["annotations"]["io.containerd.image.name"]): str(entry["digest"]) for entry in entries}
    return Archive(_tar([_file(path, content, 0o644) for path, content in files.items()]), names)


def _layer(busybox: bytes, applets: Sequence[str]) -> bytes:
    folders = [_folder("bin", 0o755), _folder("etc", 0o755), _folder("tmp", 0o1777)]
    accounts = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    files = [_file("bin/busybox", busybox, 0o755), _file("etc/passwd", accounts, 0o644)]
    links = [_link(f"bin/{applet}", "busybox") for applet in sorted(applets) if applet != "busybox"]
    return _tar([*folders, *files, *links])


def _folder(name: str, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def _file(name: str, content: bytes, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info, content


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info, b""


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _described(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
