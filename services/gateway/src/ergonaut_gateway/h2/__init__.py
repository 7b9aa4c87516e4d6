"""The gateway's gRPC door on our own HTTP/2 server: `inference` answers the one call that comes by the thousands, the server's
own way all others. `door` is both."""

from ergonaut_common.h2 import H2Limits
from ergonaut_gateway.h2.door import H2Door, opened

__all__ = ["H2Door", "H2Limits", "opened"]
