"""The HTTP server and the Open Inference Protocol on it.

`server` listens, `connection` and `reading` turn bytes into an `exchange`, `router` finds who answers it, and `turns` write the
answers in order. `inference` is one door on it; others add their paths to the same router.
"""

from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.http.inference import InferenceDoor
from ergonaut_gateway.http.limits import HttpLimits
from ergonaut_gateway.http.quality import QualityDoor
from ergonaut_gateway.http.router import Router
from ergonaut_gateway.http.server import HttpServer, opened_http, serving_http

__all__ = [
    "Callers",
    "HttpLimits",
    "HttpServer",
    "InferenceDoor",
    "QualityDoor",
    "Router",
    "opened_http",
    "serving_http",
]
