"""TLS at the gateway's doors: what both ports take callers in by, and until when the certificate holds. Used by places."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ergonaut_common.observe import get_logger
from ergonaut_common.tls import GRPC_PROTOCOLS, HTTP_PROTOCOLS, Certificates, TlsFiles

SOON = timedelta(days=14)
"""A certificate that ends within this time is warned of; who renews them by hand has two weeks left."""

log = get_logger(__name__)

Contexts = tuple[Certificates, Certificates] | tuple[None, None]
"""Of the HTTP and of the gRPC port."""


def contexts(files: TlsFiles | None) -> Contexts:
    """What callers of the ports are taken in by, none where there is no TLS. Raises Refused."""
    if files is None:
        return None, None
    both = Certificates(files, HTTP_PROTOCOLS), Certificates(files, GRPC_PROTOCOLS)
    _tell_end(files.certificate)
    return both


def _tell_end(certificate: Path) -> None:
    """Log until when the certificate holds: whoever looks for why callers turn away finds it there."""
    # Needed only where there is TLS.
    from cryptography import x509

    ends_at = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    told = log.warning if ends_at - datetime.now(UTC) < SOON else log.info
    told("certificate is used", file=str(certificate), ends_at=ends_at.isoformat())
