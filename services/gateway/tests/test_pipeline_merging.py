"""Random nodes that can be one model become one that onnxruntime runs, and that gives what their text says."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, checker, helper, numpy_helper

from ergonaut_gateway.adapters.fusing import _told
from ergonaut_gateway.adapters.merging import Unmergeable, merged
from ergonaut_gateway.domain.pipelines.checking import checked
from ergonaut_gateway.domain.pipelines.recipes import Recipe, candidates
from ergonaut_gateway.domain.pipelines.spec import Pipeline

from .test_pipeline_graphs import REQUEST, VERSIONS, pipelines, plainly

NODES = {
    "double": [helper.make_node("Add", ["x", "x"], ["y"])],
    "negate": [helper.make_node("Neg", ["x"], ["y"])],
    "add": [helper.make_node("Add", ["a", "b"], ["y"])],
    "both": [helper.make_node("Add", ["x", "k"], ["p"]), helper.make_node("Sub", ["x", "k"], ["q"])],
    "scaler": [helper.make_node("Mul", ["x", "k"], ["scaled"])],
}
CONSTANTS = {"both": np.array([1.0], "<f4"), "scaler": np.array([1 / 16], "<f4")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Models that do what the functions of numpy do, by the same names; some of another opset than the others."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for at, (name, nodes) in enumerate(NODES.items()):
        signature = VERSIONS[name, "1"]
        infos = [
            [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, ["n", 3]) for spec in side]
            for side in (signature.inputs, signature.outputs)
        ]
        constants = [numpy_helper.from_array(CONSTANTS[name], "k")] if name in CONSTANTS else []
        graph = helper.make_graph(nodes, name, *infos, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15 + at % 2)], ir_version=8 + at % 2)
        path = folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        made[name, "1"] = path
    return made


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(pipelines())
def test_a_merged_model_gives_what_the_text_of_its_node_says(
    files: dict[tuple[str, str], Path], pipeline: Pipeline
) -> None:
    graph, _ = checked(pipeline, VERSIONS)
    for node, recipe in candidates(graph):
        if node.path or not isinstance(recipe, Recipe):
            continue
        request = json.loads(json.dumps({**_told(recipe, files), "target": "", "rows_alike": True}))
        if {spec.name for spec in node.inputs} & {spec.name for spec in node.outputs}:
            with pytest.raises(Unmergeable, match="one model cannot call both so"):
                merged(request)
            return
        model = merged(request)
        checker.check_model(model)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        names = [output.name for output in session.get_outputs()]
        assert names == [spec.name for spec in node.outputs]
        assert {tuple(each.shape) for each in (*session.get_inputs(), *session.get_outputs())} == {("rows", 3)}
        given = dict(
            zip(names, session.run(None, {spec.name: REQUEST[spec.name] for spec in node.inputs}), strict=True)
        )
        expected = plainly(pipeline, "n-0", REQUEST, set[str]().__contains__)
        for name, tensor in given.items():
            np.testing.assert_allclose(tensor, expected[name], rtol=1e-4, atol=1e-5)
