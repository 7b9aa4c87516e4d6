"""The use cases of the gateway: models looked after, models held ready, predictions made and counted."""

from ergonaut_gateway.service.batching import EngineLimits
from ergonaut_gateway.service.catalogue import Catalogue
from ergonaut_gateway.service.lanes import Ticket
from ergonaut_gateway.service.models import Deployment, Models
from ergonaut_gateway.service.predictions import Predictions, Wish

__all__ = ["Catalogue", "Deployment", "EngineLimits", "Models", "Predictions", "Ticket", "Wish"]
