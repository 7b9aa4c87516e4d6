"""Small ONNX models, made when a test needs one."""

from onnx import TensorProto, helper

NUMPY_TO_ONNX = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def doubling(name: str = "doubling") -> bytes:
    """y = 2x and z = -x, FP32, three wide. Another name gives another file."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    return _model(nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, {"y": (TensorProto.FLOAT, ["n", 3])} | _Z, name)


_X = (TensorProto.FLOAT, ["n", 3])
_Z = {"z": (TensorProto.FLOAT, ["n", 3])}


def identity(datatype: str) -> bytes:
    """y = x, for a datatype."""
    kind = NUMPY_TO_ONNX[datatype]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return _model(nodes, {"x": (kind, ["n", 2])}, {"y": (kind, ["n", 2])}, "identity")


def adding() -> bytes:
    """y = a + b, whose lengths must agree, which only the graph knows."""
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    inputs = {"a": (TensorProto.FLOAT, ["n"]), "b": (TensorProto.FLOAT, ["m"])}
    return _model(nodes, inputs, {"y": (TensorProto.FLOAT, ["k"])}, "adding")


def centring() -> bytes:
    """y = x less the mean of all rows, so that rows are not independent."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return _model(nodes, {"x": _X}, {"y": _X}, "centring", [axes], opset=18)


def summing_up() -> bytes:
    """y = x and all rows before it, so that the order of rows matters."""
    axis = helper.make_tensor("axis", TensorProto.INT64, [], [0])
    nodes = [helper.make_node("CumSum", ["x", "axis"], ["y"])]
    return _model(nodes, {"x": _X}, {"y": _X}, "summing", [axis])


def pairing() -> bytes:
    """y = softmax(a + b), whose rows are independent and as wide as the caller likes; one row pairs with any number."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Softmax", ["sum"], ["y"], axis=-1)]
    shape = (TensorProto.FLOAT, ["n", "width"])
    return _model(nodes, {"a": shape, "b": shape}, {"y": shape}, "pairing")


def drawing_lots() -> bytes:
    """y = x and something random."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    return _model(nodes, {"x": _X}, {"y": _X}, "lots")


def of_fixed_rows() -> bytes:
    """y = 2x for exactly two rows."""
    shape = (TensorProto.FLOAT, [2, 3])
    return _model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": shape}, {"y": shape}, "fixed")


def counting() -> bytes:
    """y = the number of rounds given, counted one by one: a million rounds keep a core busy for about a second."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    body = helper.make_graph(
        [helper.make_node("Add", ["sum_in", "one"], ["sum_out"]), helper.make_node("Identity", ["go_in"], ["go_out"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_in", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, [1]),
        ],
        [one],
    )
    nodes = [
        helper.make_node("Constant", [], ["go"], value=helper.make_tensor("true", TensorProto.BOOL, [], [True])),
        helper.make_node("Constant", [], ["zero"], value=helper.make_tensor("nought", TensorProto.FLOAT, [1], [0.0])),
        helper.make_node("Loop", ["rounds", "go", "zero"], ["y"], body=body),
    ]
    return _model(nodes, {"rounds": (TensorProto.INT64, [])}, {"y": (TensorProto.FLOAT, [1])}, "counting")


def comparing() -> bytes:
    """y = how many of so many empty boxes overlap no other, each compared with all before it by one operator that nothing can
    interrupt: 400,000 take some minutes."""
    ones = helper.make_tensor("ones", TensorProto.INT64, [1], [1])
    four = helper.make_tensor("four", TensorProto.INT64, [1], [4])
    nodes = [
        helper.make_node("Concat", ["ones", "count", "four"], ["shape of boxes"], axis=0),
        helper.make_node("Concat", ["ones", "ones", "count"], ["shape of scores"], axis=0),
        helper.make_node("ConstantOfShape", ["shape of boxes"], ["boxes"]),
        helper.make_node("ConstantOfShape", ["shape of scores"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "count"], ["chosen"]),
        helper.make_node("Shape", ["chosen"], ["y"]),
    ]
    inputs = {"count": (TensorProto.INT64, [1])}
    return _model(nodes, inputs, {"y": (TensorProto.INT64, [2])}, "comparing", [ones, four])


def weighing(shape: list[int], kind: int = TensorProto.FLOAT) -> bytes:
    """y = w, a constant that is declared and whose content is left out."""
    constant = TensorProto(name="w", data_type=kind, dims=shape)
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    return _model(nodes, {}, {"y": (kind, shape)}, "weighing", [constant])


def growing(at: str) -> bytes:
    """y = the sum of x and 100,000 x 100,000 noughts, made of 200,000 when it is loaded, or of x when it is run."""
    row = helper.make_tensor("row", TensorProto.INT64, [2], [1, 100_000])
    column = helper.make_tensor("column", TensorProto.INT64, [2], [100_000, 1])
    nodes = [
        helper.make_node("Expand", ["nought" if at == "when loaded" else "x", "row"], ["wide"]),
        helper.make_node("Expand", ["nought" if at == "when loaded" else "x", "column"], ["high"]),
        helper.make_node("Mul", ["wide", "high"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    nought = helper.make_tensor("nought", TensorProto.FLOAT, [1, 1], [0.0])
    shape = (TensorProto.FLOAT, [1, 1])
    return _model(nodes, {"x": shape}, {"y": shape}, at, [row, column, nought])


def filling() -> bytes:
    """y = the largest of so many noughts."""
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["noughts"]),
        helper.make_node("ReduceMax", ["noughts"], ["y"], keepdims=0),
    ]
    return _model(nodes, {"count": (TensorProto.INT64, [1])}, {"y": (TensorProto.FLOAT, [])}, "filling")


def giving_a_map() -> bytes:
    """What scikit-learn classifiers become without zipmap=False: an output that is no tensor."""
    nodes = [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])]
    graph = helper.make_graph(
        nodes,
        "zipmap",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_value_info(
                "y",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
                ),
            )
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def reading_a_neighbour(location: str) -> bytes:
    """A model whose weights are said to lie in another file."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3], [0.0, 0.0, 0.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    shape = (TensorProto.FLOAT, ["n", 3])
    return _model(nodes, {"x": shape}, {"y": shape}, "neighbour", [weights])


def _model(nodes, inputs, outputs, name, initializers=(), opset=17) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(tensor, kind, shape) for tensor, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(tensor, kind, shape) for tensor, (kind, shape) in outputs.items()],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString()
