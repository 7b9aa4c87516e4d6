"""gRPC on an HTTP/2 server of our own (RFC 9113), several times as fast as grpcio's in Python.

`connection`, `sending` and `control` turn bytes into streams, `requests` and `messages` turn these into calls, and `tasks`
answers them with the handlers that grpcio's server is given. `door` is all of it, `serving` has it listen.
"""

from ergonaut_common.h2.door import H2Door
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.h2.serving import serving

__all__ = ["H2Door", "H2Limits", "serving"]
