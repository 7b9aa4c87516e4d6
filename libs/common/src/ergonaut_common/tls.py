"""TLS at the doors: a service's certificate, and whose certificates callers must show. Doors take callers in by it."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ergonaut.errors import Refused
from ergonaut_common.key_files import check_private

HTTP_PROTOCOLS = ("h2", "http/1.1")
GRPC_PROTOCOLS = ("h2",)
"""What is offered by ALPN, the preferred first; gRPC clients insist on it."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those that HTTP/2 allows (RFC 9113, 9.2.2). TLS 1.3 has no others."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files, each named as the setting that tells of it: `<settings>_CERTIFICATE`, `_KEY`, `_CLIENT_CA`."""

    certificate: Path
    """With the certificates between it and a root, if there are any."""
    key: Path
    client_ca: Path | None
    """Who must have signed the certificates of callers; None where callers need none."""
    settings: str
    """What the names of the settings begin with, for errors, such as `ERGONAUT_GATEWAY_TLS`."""


def server_context(files: TlsFiles, protocols: Sequence[str]) -> ssl.SSLContext:
    """What callers are taken in by, TLS 1.2 at least. Raises Refused, with the setting and what to do."""
    check_private(files.key, field=f"{files.settings}_KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(protocols))
    _load_own(context, files)
    if files.client_ca is not None:
        _load_callers(context, files.client_ca, f"{files.settings}_CLIENT_CA")
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    own = ((f"{files.settings}_CERTIFICATE", files.certificate), (f"{files.settings}_KEY", files.key))
    for field, path in own:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}", field=field) from error
        if b"-----BEGIN " not in text:
            raise Refused(f"{path} is no PEM file", field=field)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except _Locked:
        raise Refused(
            f"{files.key} is locked by a password; give a key without one", field=f"{files.settings}_KEY"
        ) from None
    except (ssl.SSLError, OSError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        told = f"{files.certificate} and {files.key} are no certificate and its key: {why}"
        raise Refused(told, field=f"{files.settings}_CERTIFICATE") from error


class _Locked(Exception):
    pass


def _no_password() -> str:
    """Else the process would stand and ask for one at a terminal."""
    raise _Locked


def _load_callers(context: ssl.SSLContext, authority: Path, field: str) -> None:
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        # Of no certificate at all, OpenSSL's error is one of these too.
        raise Refused(f"{authority} cannot be read as certificates: {error}", field=field) from error
    context.verify_mode = ssl.CERT_REQUIRED


class Agreeing(asyncio.Protocol):
    """Stands for a caller until TLS is agreed upon: doors count their connections from when they make them, and whoever does
    not speak TLS never becomes one."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection to its door."""
        protocol = self._factory()
        cast("asyncio.Transport", transport).set_protocol(protocol)
        protocol.connection_made(transport)
