"""kopf's login with the very credentials that the rest of the operator uses."""

from typing import Any

import kopf

from fettle_operator.cluster import Credentials

__all__ = ["login_with"]


def login_with(registry: kopf.OperatorRegistry, credentials: Credentials) -> None:
    """Let kopf log in, and again whenever the server stops accepting the token it holds."""

    @kopf.on.login(registry=registry, retries=1, id="login")
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=credentials.server,
            ca_data=credentials.ca_data,
            insecure=credentials.insecure,
            scheme="Bearer" if credentials.token() else None,
            token=credentials.token(),
            certificate_data=credentials.certificate_data,
            private_key_data=credentials.private_key_data,
        )
