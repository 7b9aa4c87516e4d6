"""Whether a caller who sends no more has hung up or still reads: the kernel knows, once something was sent to it."""

import os
import socket
from asyncio import Transport

CAN_TELL_HUNG_UP = hasattr(socket, "TCP_INFO")
"""Elsewhere than on Linux, callers that send no more are taken as gone, as most servers do."""

_CLOSED = 7
"""The kernel's number for a connection that the other side has reset."""


def has_hung_up(transport: Transport) -> bool:
    """Whether the other side has refused what was sent to it."""
    given = transport.get_extra_info("socket")
    if given is None or given.fileno() < 0:
        return True
    # What uvloop gives is no socket that could be asked.
    with socket.socket(fileno=os.dup(given.fileno())) as asked:
        return asked.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED
