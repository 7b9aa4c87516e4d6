"""TLS at the doors: a service's certificate, and whose certificates callers must show. Doors take callers in by it."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut_common.key_files import check_private
from ergonaut_common.observe import get_logger

HTTP_PROTOCOLS = ("h2", "http/1.1")
GRPC_PROTOCOLS = ("h2",)
"""What is offered by ALPN, the preferred first; gRPC clients insist on it."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those that HTTP/2 allows (RFC 9113, 9.2.2). TLS 1.3 has no others."""


Context = Callable[[], ssl.SSLContext]
"""By what a caller is taken in who comes now."""

log = get_logger(__name__)


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


class Certificates:
    """By what callers are taken in, as its files are when each of them comes: one that was renewed is shown from then on.

    Where the files are wrong, as between the writing of a certificate and that of its key, all stays as it was.
    """

    def __init__(self, files: TlsFiles, protocols: Sequence[str]) -> None:
        """Raises Refused, with the setting and what to do."""
        self._files = files
        self._protocols = protocols
        # Before they are read: what is written meanwhile is read again.
        self._seen = _versions(files)
        self._context = server_context(files, protocols)

    def __call__(self) -> ssl.SSLContext:
        seen = _versions(self._files)
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._context

    def _read_again(self) -> None:
        try:
            self._context = server_context(self._files, self._protocols)
            log.info("certificate was renewed", file=str(self._files.certificate))
        except Refused as error:
            log.error("certificate stays as it was", error=str(error))


def _versions(files: TlsFiles) -> Sequence[tuple[int, ...]]:
    """By what it shows that files are others, or may be read by others: microseconds, beside a handshake's millisecond."""
    return [_version(path) for path in (files.certificate, files.key, files.client_ca) if path is not None]


def _version(path: Path) -> tuple[int, ...]:
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_ctime_ns, told.st_size, told.st_ino


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
