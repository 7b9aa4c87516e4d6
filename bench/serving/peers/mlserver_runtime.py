"""MLServer's own runtime interface around the model. Run by `mlserver start FOLDER`, as `contestants` writes that folder."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from served import Served


class ServedModel(MLModel):
    """Batched by MLServer's own adaptive batching."""

    async def load(self) -> bool:
        """Load the model."""
        self.served = Served()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """All outputs."""
        answered = self.served(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output(name, value) for name, value in answered.items()]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)
