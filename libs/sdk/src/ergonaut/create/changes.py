"""Changes to a model that keep what it computes: maps dropped, a batch axis freed. Each gives a new model."""

import onnx
from onnx import ModelProto, TensorProto, helper

from ergonaut.create.inspection import map_outputs, telling_damage
from ergonaut.errors import Refused

BATCH_AXIS = "batch"

OPSET = 17
"""Put where a model names no opset of the standard operators; every runtime of these years has it."""


@telling_damage()
def without_maps(model: ModelProto) -> ModelProto:
    """The model with each ZipMap gone, so that it gives the map's values as a tensor under the same name."""
    changed = _copy(model)
    graph = changed.graph
    if all(entry.domain not in ("", "ai.onnx") for entry in changed.opset_import):
        changed.opset_import.append(helper.make_opsetid("", OPSET))
    for name in map_outputs(model):
        node = next(node for node in graph.node if name in node.output)
        classes = len(node.attribute[0].ints or node.attribute[0].strings)
        graph.node.remove(node)
        graph.node.append(helper.make_node("Identity", [node.input[0]], [name]))
        place = next(place for place, value in enumerate(graph.output) if value.name == name)
        axes: list[str | int | None] = [BATCH_AXIS, classes]
        graph.output[place].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))
    return changed


@telling_damage()
def with_free_batch(model: ModelProto) -> ModelProto:
    """The model with the first axis of every input and output given to the caller. Whether it computes the same shows a run."""
    changed = _copy(model)
    weights = {tensor.name for tensor in changed.graph.initializer}
    for value in (*changed.graph.input, *changed.graph.output):
        if value.name in weights:
            continue
        axis = value.type.tensor_type.shape.dim[0]
        axis.ClearField("dim_value")
        axis.dim_param = BATCH_AXIS
    # What was inferred in between still says 1.
    del changed.graph.value_info[:]
    return changed


def to_bytes(model: ModelProto) -> bytes:
    """The file's content. Raises Refused where it is beyond what one file may hold."""
    try:
        content: bytes = model.SerializeToString(deterministic=True)
    except ValueError as error:
        raise Refused("the model and its weights are more than 2 GiB; make it smaller first") from error
    return content


def _copy(model: ModelProto) -> ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    return changed
