"""TLS of callers: an address that begins with `https://` is called by it, with what these variables name. Used by the client, the
command line, and services that call each other."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ergonaut.errors import Refused

if TYPE_CHECKING:
    import grpc

CA = "ERGONAUT_TLS_CA"
CERTIFICATE = "ERGONAUT_TLS_CLIENT_CERTIFICATE"
KEY = "ERGONAUT_TLS_CLIENT_KEY"

_SCHEME = "https://"


def is_secure(address: str) -> bool:
    """Whether an address is called by TLS."""
    return address.startswith(_SCHEME)


def bare(address: str) -> str:
    """The address as host:port.

    >>> bare("https://models.example:7405/"), bare("127.0.0.1:7405")
    ('models.example:7405', '127.0.0.1:7405')
    """
    return address.removeprefix(_SCHEME).rstrip("/") if is_secure(address) else address


def base_url(address: str) -> str:
    """Where HTTP is asked at an address, to put paths after.

    >>> base_url("https://models.example:7480"), base_url("127.0.0.1:7480")
    ('https://models.example:7480', 'http://127.0.0.1:7480')
    """
    return f"{_SCHEME if is_secure(address) else 'http://'}{bare(address)}"


def channel_credentials(environment: Mapping[str, str] = os.environ) -> "grpc.ChannelCredentials":
    """By what gRPC calls such addresses. Raises Refused, with the variable."""
    import grpc

    certificate, key = _own(environment)
    authority = environment.get(CA, "")
    return grpc.ssl_channel_credentials(
        _read(CA, authority) if authority else None,
        _read(KEY, key) if key else None,
        _read(CERTIFICATE, certificate) if certificate else None,
    )


def http_context(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """By what HTTP calls them. Raises Refused, with the variable."""
    certificate, key = _own(environment)
    authority = environment.get(CA, "")
    if authority:
        _read(CA, authority)
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except OSError as error:
        raise Refused(f"{authority} holds no certificates: {error}", field=CA) from error
    if certificate:
        for field, path in ((CERTIFICATE, certificate), (KEY, key)):
            _read(field, path)
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            raise Refused(
                f"{certificate} and {key} are no certificate and its key: {error}", field=CERTIFICATE
            ) from error
    return context


def _own(environment: Mapping[str, str]) -> tuple[str, str]:
    certificate, key = environment.get(CERTIFICATE, ""), environment.get(KEY, "")
    if bool(certificate) != bool(key):
        raise Refused(
            f"{KEY if certificate else CERTIFICATE} is missing; a certificate needs its key", field=CERTIFICATE
        )
    return certificate, key


def _read(field: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", field=field) from error
