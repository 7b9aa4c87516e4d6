"""LitServe, by its own JSON; it does not speak the Open Inference Protocol."""

from typing import Any

import litserve
import numpy as np
from served import BATCH_MAX, BATCH_WAIT_SECONDS, HOST, HTTP_PORT, Served


class ServedModel(litserve.LitAPI):
    """Batched as its documentation tells."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        del device
        self.served = Served()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """One caller's row."""
        return np.asarray(request["X"], np.float32)[0]

    def batch(self, inputs: list[Any]) -> Any:
        """Callers' rows together."""
        return np.stack(inputs)

    def predict(self, x: Any) -> list[dict[str, Any]]:
        """All outputs, row by row."""
        answered = self.served(x)
        return [{name: value[row] for name, value in answered.items()} for row in range(len(x))]

    def unbatch(self, output: list[dict[str, Any]]) -> Any:
        """Each caller's part."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As JSON has it."""
        return {name: value.tolist() for name, value in output.items()}


if __name__ == "__main__":
    api = ServedModel(max_batch_size=BATCH_MAX, batch_timeout=BATCH_WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=HTTP_PORT, generate_client_file=False, log_level="error", access_log=False)
