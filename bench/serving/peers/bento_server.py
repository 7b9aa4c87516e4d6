"""BentoML, by its own JSON; it does not speak the Open Inference Protocol. Run by `bentoml serve bento_server:ServedModel`."""

import bentoml
import numpy as np
from served import BATCH_MAX, Served


@bentoml.service(workers=1, traffic={"timeout": 30})
class ServedModel:
    """Batched as its documentation tells."""

    def __init__(self) -> None:
        self.served = Served()

    @bentoml.api(batchable=True, max_batch_size=BATCH_MAX, max_latency_ms=2_000, route="/infer")
    def infer(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 - named as the model's input
        """The last output; one array is what a batchable function may give."""
        return self.served(X)[self.served.outputs[-1]]
