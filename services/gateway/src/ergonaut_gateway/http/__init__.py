"""The HTTP server and the Open Inference Protocol on it.

`server` listens, `connection` and `reading` turn bytes into an `exchange`, `router` finds who answers it, and `turns` write the
answers in order. `inference` is one door on it; others add their paths to the same router: `people` takes
plain JSON with named fields, `pages` is what a browser shows.
"""

from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.http.inference import InferenceDoor
from ergonaut_gateway.http.limits import HttpLimits
from ergonaut_gateway.http.pages import PagesDoor
from ergonaut_gateway.http.people import PeopleDoor
from ergonaut_gateway.http.quality import QualityDoor
from ergonaut_gateway.http.router import Router
from ergonaut_gateway.http.server import HttpServer, opened_http, serving_http

__all__ = [
    "Callers",
    "HttpLimits",
    "HttpServer",
    "InferenceDoor",
    "PagesDoor",
    "PeopleDoor",
    "QualityDoor",
    "Router",
    "opened_http",
    "serving_http",
]
