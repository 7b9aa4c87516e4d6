"""The gateway keeps models and serves their predictions by the Open Inference Protocol, over HTTP and gRPC. It reads nothing
from the bus; it emits `models.model.deployed`, `models.model.removed`, `models.model.aliased` and, counted over seconds,
`inference.request.served`; where it is told to watch, `models.drift.found`, `models.quality.changed` and samples of requests,
`inference.request.logged`."""
