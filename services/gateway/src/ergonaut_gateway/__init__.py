"""The gateway keeps models and serves their predictions by the Open Inference Protocol, over HTTP and gRPC. It reads nothing
from the bus; it emits `models.model.deployed`, `models.model.removed` and, counted over seconds, `inference.request.served`."""
