"""The HTTP door of the Open Inference Protocol: routes in `routes`, bodies in `bodies`, the listening socket in `server`."""

from ergonaut_gateway.http.bodies import BodyLimits
from ergonaut_gateway.http.routes import routes
from ergonaut_gateway.http.server import serving_http

__all__ = ["BodyLimits", "routes", "serving_http"]
