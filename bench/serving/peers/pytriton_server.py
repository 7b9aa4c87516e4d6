"""pytriton: Triton's front end and its Python backend, which is not its native ONNX backend."""

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from served import BATCH_MAX, GRPC_PORT, HOST, HTTP_PORT, METRICS_PORT, Served

served = Served()


@batch
def infer(X: np.ndarray) -> dict[str, np.ndarray]:  # noqa: N803 - named as the model's input
    """All outputs; Triton wants two axes of the labels."""
    return {name: value.reshape(len(X), -1) for name, value in served(X).items()}


def main() -> None:
    """Serve until it is killed."""
    shapes = {"label": (np.int64, (1,)), "probabilities": (np.float32, (10,))}
    outputs = [Tensor(name=name, dtype=shapes[name][0], shape=shapes[name][1]) for name in served.outputs]
    addresses = {"http_address": HOST, "grpc_address": HOST, "http_port": HTTP_PORT, "grpc_port": GRPC_PORT}
    with Triton(config=TritonConfig(**addresses, metrics_port=METRICS_PORT, log_verbose=0)) as triton:
        triton.bind(
            model_name="m",
            infer_func=infer,
            inputs=[Tensor(name="X", dtype=np.float32, shape=tuple(served.row_shape))],
            outputs=outputs,
            config=ModelConfig(max_batch_size=BATCH_MAX, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    main()
