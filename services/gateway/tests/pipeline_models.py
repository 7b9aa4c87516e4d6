"""Small ONNX models of which pipelines are made, and a gateway that serves such."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ergonaut_gateway.adapters.fusing import OnnxFuser
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.pipelines.records import PipelineRecord
from ergonaut_gateway.domain.pipelines.spec import Pipeline
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.fakes import FakePipelineBook
from ergonaut_gateway.ports import Fuser, ModelLoader, ModelSigner
from ergonaut_gateway.service.fusing import Fusing, Tools
from ergonaut_gateway.service.pipeline_runs import Engine
from ergonaut_gateway.service.pipelines import Change, Pipelines, PipelineWorld
from ergonaut_gateway.service.spool import Spool

from .conftest import Gateway

WIDTH = 8
ROWS = (TensorProto.FLOAT, ["n", WIDTH])


def scaler(opset: int = 17) -> bytes:
    """scaled = x / 16, which rounds nothing."""
    nodes = [helper.make_node("Mul", ["x", "k"], ["scaled"])]
    return _model(nodes, {"x": ROWS}, {"scaled": ROWS}, {"k": np.array([1 / 16], "<f4")}, opset=opset)


def classifier(seed: int, *, opset: int = 17, width: int = WIDTH) -> bytes:
    """probabilities = softmax(x w + b) of three classes, and label, the likeliest."""
    weights = np.random.default_rng(seed)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["probabilities"], axis=-1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=-1, keepdims=0),
    ]
    gives = {"probabilities": (TensorProto.FLOAT, ["n", 3]), "label": (TensorProto.INT64, ["n"])}
    constants = {
        "w": weights.standard_normal((width, 3)).astype("<f4"),
        "b": weights.standard_normal(3).astype("<f4"),
    }
    return _model(nodes, {"x": (TensorProto.FLOAT, ["n", width])}, gives, constants, opset=opset)


def branching() -> bytes:
    """y = x, decided by an operator that holds graphs of its own."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inner"])], "b", [], [helper.make_tensor_value_info("inner", *ROWS)]
    )
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)]
    return _model(nodes, {"x": ROWS}, {"y": ROWS}, {"yes": np.array(True)})  # noqa: FBT003


def scoring(ml_opset: int) -> bytes:
    """y = x in two classes, by an operator of scikit-learn's set."""
    nodes = [helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.0)]
    graph = helper.make_graph(
        nodes, "m", [helper.make_tensor_value_info("x", *ROWS)], [helper.make_tensor_value_info("y", *ROWS)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def noisy() -> bytes:
    """y = x and something random."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    return _model(nodes, {"x": ROWS}, {"y": ROWS}, {})


def _model(nodes, takes, gives, constants: Mapping[str, Tensor], opset: int = 17) -> bytes:
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info(name, *form) for name, form in takes.items()],
        [helper.make_tensor_value_info(name, *form) for name, form in gives.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString()


def rows(count: int = 4, seed: int = 0) -> Tensor:
    return (np.random.default_rng(seed).standard_normal((count, WIDTH)) * 16).astype("<f4")


@dataclass
class House:
    """A gateway with pipelines."""

    gateway: Gateway
    pipelines: Pipelines
    book: FakePipelineBook

    async def deploy(self, **contents: bytes) -> list[ModelRecord]:
        return [await self.gateway.deploy(content, name) for name, content in contents.items()]

    async def apply(
        self, pipeline: Pipeline, *, tenant: str = "default", expected: int | None = None
    ) -> PipelineRecord:
        return await self.pipelines.apply(tenant, pipeline, Change("ann", "a test", expected))

    async def ask(self, name: str = "checked", *outputs: str, **inputs: Tensor) -> dict[str, Tensor]:
        request = InferenceRequest("7", inputs, outputs)
        answer = await self.gateway.predictions.infer("default", name, "", request)
        return {name: np.array(tensor) for name, tensor in answer.outputs.items()}


def house_of(
    gateway: Gateway,
    loader: ModelLoader,
    book: FakePipelineBook,
    fuser: Fuser | None = None,
    *,
    signer: ModelSigner | None = None,
    must_sign: bool = False,
    **bounds: object,
) -> House:
    def find(tenant: str, model: str, version: str) -> ModelRecord:
        return gateway.catalogue.find(tenant, model, version).record

    engine = Engine(gateway.predictions.submit_model, find, gateway.clock, chance=lambda: 0.5, **bounds)  # type: ignore[arg-type]
    tools = Tools(fuser or OnnxFuser(), loader, gateway.files, signer, must_sign)
    spool = Spool(gateway.spool_folder, file_bytes_max=1_000_000)
    fusing = Fusing(gateway.models, gateway.catalogue, spool, tools)
    world = PipelineWorld(book, gateway.announcer, gateway.clock, gateway.registry, gateway.models, fusing)
    pipelines = Pipelines(world, gateway.predictions.plans, engine)
    gateway.models.hold_by(pipelines.holds)
    gateway.models.name_by(pipelines.named)
    return House(gateway, pipelines, book)
