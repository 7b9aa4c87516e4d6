"""KServe's Python server, with the model behind its own door; it has no batching of its own."""

from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.numpy_codec import from_np_dtype
from served import GRPC_PORT, HTTP_PORT, Served


class ServedModel(Model):
    """Answers in the form that it was asked for."""

    def __init__(self) -> None:
        super().__init__("m")
        self.served = Served()
        self.ready = True

    def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """All outputs, binary where the caller wants them so."""
        binary = bool(payload.parameters and payload.parameters.get("binary_data_output"))
        answered = self.served(payload.inputs[0].as_numpy())
        outputs = []
        for name, value in answered.items():
            output = InferOutput(name, list(value.shape), from_np_dtype(value.dtype))
            output.set_data_from_numpy(value, binary_data=binary)
            outputs.append(output)
        return InferResponse(response_id=payload.id, model_name="m", infer_outputs=outputs)


if __name__ == "__main__":
    ModelServer(http_port=HTTP_PORT, grpc_port=GRPC_PORT).start([ServedModel()])
