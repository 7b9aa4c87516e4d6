"""TLS at the doors: the gateway's certificate, and whose certificates callers must show. Entrances take callers in by it."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut_common.observe import get_logger
from ergonaut_gateway.key_files import check_private

CERTIFICATE, KEY, CLIENT_CA = (f"ERGONAUT_GATEWAY_TLS_{name}" for name in ("CERTIFICATE", "KEY", "CLIENT_CA"))
"""The settings, as errors name them."""

HTTP_PROTOCOLS = ("h2", "http/1.1")
GRPC_PROTOCOLS = ("h2",)
"""What is offered by ALPN, the preferred first; gRPC clients insist on it."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those that HTTP/2 allows (RFC 9113, 9.2.2). TLS 1.3 has no others."""

SOON = timedelta(days=14)
"""A certificate that ends within this time is warned of; who renews them by hand has two weeks left."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files, each named as the setting that tells of it."""

    certificate: Path
    """With the certificates between it and a root, if there are any."""
    key: Path
    client_ca: Path | None = None
    """Who must have signed the certificates of callers; None where callers need none."""


Contexts = tuple[ssl.SSLContext, ssl.SSLContext] | tuple[None, None]
"""Of the HTTP and of the gRPC port."""


def contexts(files: TlsFiles | None) -> Contexts:
    """What callers of the ports are taken in by, none where there is no TLS. Raises Refused."""
    if files is None:
        return None, None
    both = server_context(files, HTTP_PROTOCOLS), server_context(files, GRPC_PROTOCOLS)
    _tell_end(files.certificate)
    return both


def server_context(files: TlsFiles, protocols: Sequence[str]) -> ssl.SSLContext:
    """What callers are taken in by, TLS 1.2 at least. Raises Refused, with the setting and what to do."""
    check_private(files.key, field=KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(protocols))
    _load_own(context, files)
    if files.client_ca is not None:
        _load_callers(context, files.client_ca)
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    for field, path in ((CERTIFICATE, files.certificate), (KEY, files.key)):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}", field=field) from error
        if b"-----BEGIN " not in text:
            raise Refused(f"{path} is no PEM file", field=field)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except _Locked:
        raise Refused(f"{files.key} is locked by a password; give a key without one", field=KEY) from None
    except (ssl.SSLError, OSError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        told = f"{files.certificate} and {files.key} are no certificate and its key: {why}"
        raise Refused(told, field=CERTIFICATE) from error


class _Locked(Exception):
    pass


def _no_password() -> str:
    """Else the process would stand and ask for one at a terminal."""
    raise _Locked


def _load_callers(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        # Of no certificate at all, OpenSSL's error is one of these too.
        raise Refused(f"{authority} cannot be read as certificates: {error}", field=CLIENT_CA) from error
    context.verify_mode = ssl.CERT_REQUIRED


def _tell_end(certificate: Path) -> None:
    """Log until when the certificate holds: whoever looks for why callers turn away finds it there."""
    # Needed only where there is TLS.
    from cryptography import x509

    ends_at = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    told = log.warning if ends_at - datetime.now(UTC) < SOON else log.info
    told("certificate is used", file=str(certificate), ends_at=ends_at.isoformat())
