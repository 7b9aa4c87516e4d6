"""gRPC on an HTTP/2 server of our own (RFC 9113), several times as fast as grpcio's in Python.

`connection`, `sending` and `control` turn bytes into streams, `requests` and `messages` turn these into calls. `inference`
answers the one call that comes by the thousands; `tasks` answers all others with the handlers that grpcio's server is given.
`door` is all of it.
"""

from ergonaut_gateway.h2.door import H2Door, opened
from ergonaut_gateway.h2.limits import H2Limits

__all__ = ["H2Door", "H2Limits", "opened"]
