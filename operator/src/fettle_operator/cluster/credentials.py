"""Where the API server is and how to prove who we are: the pod's service account, or a kubeconfig."""

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fettle_operator.errors import InvalidConfiguration

__all__ = ["SERVICE_ACCOUNT", "Credentials", "load_credentials"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Credentials:
    """One server and one identity."""

    server: str
    ca_data: bytes | None = None
    insecure: bool = False
    token_path: Path | None = None
    """A file whose content changes while we run: the kubelet renews the pod's token."""
    fixed_token: str | None = None
    certificate_data: bytes | None = None
    private_key_data: bytes | None = None

    def token(self) -> str | None:
        """Return the bearer token as it is now."""
        return self.token_path.read_text(encoding="utf-8").strip() if self.token_path else self.fixed_token

    def ssl_context(self) -> ssl.SSLContext:
        """Return the TLS settings: whom to trust and which certificate to show."""
        context = ssl.create_default_context(cadata=self.ca_data.decode() if self.ca_data else None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_data and self.private_key_data:
            # The ssl module reads certificates from files only; these live for one call.
            with tempfile.NamedTemporaryFile() as certificate, tempfile.NamedTemporaryFile() as key:
                _fill(certificate.name, self.certificate_data)
                _fill(key.name, self.private_key_data)
                context.load_cert_chain(certificate.name, key.name)
        return context


def load_credentials(
    kubeconfig: Path | None, environment: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT
) -> Credentials:
    """Return the credentials of the kubeconfig if one is named, else those of the pod we run in."""
    if kubeconfig is not None:
        return _of_kubeconfig(kubeconfig)
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (account / "token").is_file():
        raise InvalidConfiguration(
            "no way to the API server: this is not a pod with a service-account token, "
            "and no kubeconfig is named; start with --kubeconfig PATH or set KUBECONFIG"
        )
    address = f"[{host}]" if ":" in host else host
    return Credentials(
        server=f"https://{address}:{port}",
        ca_data=(account / "ca.crt").read_bytes(),
        token_path=account / "token",
    )


def _of_kubeconfig(path: Path) -> Credentials:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _entry(config, "contexts", config["current-context"])["context"]
        cluster = _entry(config, "clusters", context["cluster"])["cluster"]
        user = _entry(config, "users", context["user"])["user"] if context.get("user") else {}
        server = cluster["server"]
    except OSError as error:
        raise InvalidConfiguration(f"kubeconfig {path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InvalidConfiguration(f"kubeconfig {path}: is incomplete or malformed: {error}") from None
    if "exec" in user or "auth-provider" in user:
        raise InvalidConfiguration(
            f"kubeconfig {path}: login by an external program is not supported; use a certificate or a token"
        )
    token_file = user.get("tokenFile")
    return Credentials(
        server=server.rstrip("/"),
        ca_data=_data(cluster, "certificate-authority", path),
        insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        token_path=path.parent / token_file if token_file else None,
        fixed_token=user.get("token"),
        certificate_data=_data(user, "client-certificate", path),
        private_key_data=_data(user, "client-key", path),
    )


def _entry(config: Any, section: str, name: str) -> Any:
    for entry in config[section]:
        if entry["name"] == name:
            return entry
    raise KeyError(f"{section} has no entry {name!r}")


def _data(section: Mapping[str, Any], key: str, kubeconfig: Path) -> bytes | None:
    """Read a value that a kubeconfig holds either inline (`KEY-data`) or as the name of a file (`KEY`)."""
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return (kubeconfig.parent / section[key]).read_bytes() if key in section else None


def _fill(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
