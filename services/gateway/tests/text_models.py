"""Small real text models, made when a test needs one: tokenizers trained on our own pages, an encoder and a decoder with weights
drawn once and for all, and the same computed by numpy as the reference."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).parents[3]
END = "<|end|>"
HEADS, HEAD_WIDTH, LAYERS, CONTEXT = 2, 8, 2, 256
WIDTH = HEADS * HEAD_WIDTH
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@cache
def encoder_tokenizer() -> Tokenizer:
    """Words in pieces, between [CLS] and [SEP], as BERT has them."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train([_page()], trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer


@cache
def decoder_tokenizer() -> Tokenizer:
    """Bytes in pieces, as GPT has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([_page()], trainer)
    return tokenizer


class Encoder:
    """One layer of attention over a text's tokens. `kinds` says whether it takes token_type_ids."""

    def __init__(self, *, kinds: bool = True, length: int | None = None, rows: int | None = None) -> None:
        draw = _weights(1)
        size = encoder_tokenizer().get_vocab_size()
        self.kinds, self.length, self.rows = kinds, length, rows
        self.weights = {
            "words": draw(size, WIDTH),
            "places": draw(CONTEXT, WIDTH),
            "sorts": draw(2, WIDTH),
            **{name: draw(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")},
        }

    def states(self, tokens: Sequence[int]) -> Any:
        """The vectors of a text's tokens, by numpy."""
        w = self.weights
        x = w["words"][list(tokens)] + w["places"][: len(tokens)] + (w["sorts"][0] if self.kinds else 0)
        scores = (x @ w["wq"]) @ (x @ w["wk"]).T / np.sqrt(WIDTH)
        return _normed(x + _softmax(scores) @ (x @ w["wv"]) @ w["wo"])

    def file(self) -> bytes:
        """The model as an ONNX file."""
        ids = [("input_ids", TensorProto.INT64), ("attention_mask", TensorProto.INT64)]
        ids += [("token_type_ids", TensorProto.INT64)] if self.kinds else []
        graph = _Graph(self.weights)
        x = graph.add("Gather", "words", "input_ids")
        length = graph.add("Slice", graph.add("Shape", "input_ids"), "one", "two")
        x = graph.add("Add", x, graph.add("Slice", "places", "zero", length))
        if self.kinds:
            x = graph.add("Add", x, graph.add("Gather", "sorts", "token_type_ids"))
        q, k, v = (graph.add("MatMul", x, name) for name in ("wq", "wk", "wv"))
        scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 2, 1]))
        mask = graph.add("Unsqueeze", graph.add("Cast", "attention_mask", to=TensorProto.FLOAT), "one")
        hidden = graph.add("Mul", graph.add("Sub", mask, "unit"), "much")
        likely = graph.add("Softmax", graph.add("Add", graph.add("Div", scores, "root"), hidden), axis=-1)
        mixed = graph.add("MatMul", graph.add("MatMul", likely, v), "wo")
        graph.add("LayerNormalization", graph.add("Add", x, mixed), "gain", axis=-1, to_="last_hidden_state")
        shape = [self.rows or "texts", self.length or "tokens"]
        return graph.file(
            [helper.make_tensor_value_info(name, kind, shape) for name, kind in ids],
            [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, WIDTH])],
        )


class DecoderModel:
    """Layers of causal attention whose keys and values of the past are inputs and outputs. For onnxruntime-genai these are of
    onnxruntime's own operator, and places of tokens are found in the mask."""

    def __init__(self, *, genai: bool = False) -> None:
        draw = _weights(2)
        self.genai, self.past = genai, "past_%d" if genai else "past_key_values.%d"
        size = decoder_tokenizer().get_vocab_size()
        self.weights = {"words": draw(size, WIDTH), "places": draw(CONTEXT, WIDTH), "next": draw(WIDTH, size)}
        for layer in range(LAYERS):
            self.weights |= {f"{name}{layer}": draw(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")}

    def logits(self, tokens: Sequence[int]) -> Any:
        """Of what could be next, by numpy and without a past."""
        w, count = self.weights, len(tokens)
        x = w["words"][list(tokens)] + w["places"][:count]
        ahead = np.triu(np.full((count, count), -1e4), 1)
        for layer in range(LAYERS):
            q, k, v = (_parted(x @ w[f"{name}{layer}"]) for name in ("wq", "wk", "wv"))
            likely = _softmax(q @ k.transpose(0, 2, 1) / np.sqrt(HEAD_WIDTH) + ahead)
            x = _normed(x + (likely @ v).transpose(1, 0, 2).reshape(count, WIDTH) @ w[f"wo{layer}"])
        return x[-1] @ w["next"]

    def answer(self, tokens: Sequence[int], count: int) -> list[int]:
        """The likeliest next tokens, up to the end."""
        told, end = list(tokens), decoder_tokenizer().token_to_id(END)
        while len(told) < len(tokens) + count and end not in told[len(tokens) :]:
            told.append(int(np.argmax(self.logits(told))))
        return told[len(tokens) :]

    def file(self) -> bytes:
        """The model as an ONNX file."""
        graph = _Graph(self.weights)
        keys_at = graph.add("Sub", graph.add("CumSum", "attention_mask", "axis"), "one")
        at = "position_ids"
        if self.genai:
            count = graph.add("Neg", graph.add("Slice", graph.add("Shape", "input_ids"), "one", "two"))
            at = graph.add("Slice", keys_at, count, "last", "one")
        x = graph.add("Add", graph.add("Gather", "words", "input_ids"), graph.add("Gather", "places", at))
        if not self.genai:
            seen = graph.add(
                "LessOrEqual", graph.add("Unsqueeze", keys_at, "middle"), graph.add("Unsqueeze", at, "ends")
            )
            graph.add("Where", seen, "nothing", "ahead", to_="bias")
        for layer in range(LAYERS):
            mixed = (self._fused if self.genai else self._attention)(graph, x, layer)
            out = graph.add("MatMul", mixed, f"wo{layer}")
            x = graph.add("LayerNormalization", graph.add("Add", x, out), "gain", axis=-1)
        graph.add("MatMul", x, "next", to_="logits")
        cached = [f"{self.past % layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
        whole = [("input_ids", ["b", "s"]), ("attention_mask", ["b", "t"])]
        whole += [] if self.genai else [("position_ids", ["b", "s"])]
        value = helper.make_tensor_value_info
        return graph.file(
            [value(name, TensorProto.INT64, shape) for name, shape in whole]
            + [value(name, TensorProto.FLOAT, ["b", HEADS, "p", HEAD_WIDTH]) for name in cached],
            [value("logits", TensorProto.FLOAT, ["b", "s", len(self.weights["words"])])]
            + [value(name, TensorProto.FLOAT, ["b", HEADS, "t", HEAD_WIDTH]) for name in present],
        )

    def _attention(self, graph: "_Graph", x: str, layer: int) -> str:
        q, k, v = (self._heads(graph, graph.add("MatMul", x, f"{name}{layer}")) for name in ("wq", "wk", "wv"))
        past = self.past % layer
        keys = graph.add("Concat", f"{past}.key", k, axis=2, to_=f"present.{layer}.key")
        values = graph.add("Concat", f"{past}.value", v, axis=2, to_=f"present.{layer}.value")
        scores = graph.add("MatMul", q, graph.add("Transpose", keys, perm=[0, 1, 3, 2]))
        likely = graph.add("Softmax", graph.add("Add", graph.add("Div", scores, "head_root"), "bias"), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", likely, values), perm=[0, 2, 1, 3])
        return graph.add("Reshape", mixed, "whole")

    def _fused(self, graph: "_Graph", x: str, layer: int) -> str:
        q, k, v = (graph.add("MatMul", x, f"{name}{layer}") for name in ("wq", "wk", "wv"))
        count = graph.add("ReduceSum", "attention_mask", "one", keepdims=0)
        last = graph.add("Cast", graph.add("Sub", count, "one"), to=TensorProto.INT32)
        total = graph.add(
            "Cast", graph.add("Gather", graph.add("Shape", "attention_mask"), "axis"), to=TensorProto.INT32
        )
        past = [f"{self.past % layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        heads = {"num_heads": HEADS, "kv_num_heads": HEADS}
        return graph.fused("GroupQueryAttention", [q, k, v, *past, last, total], present, **heads)

    def _heads(self, graph: "_Graph", x: str) -> str:
        return graph.add("Transpose", graph.add("Reshape", x, "parted"), perm=[0, 2, 1, 3])


def encoder_files(folder: Path) -> tuple[Path, Path]:
    """A model and its tokenizer.json in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model, tokenizer = folder / "encoder.onnx", folder / "tokenizer.json"
    model.write_bytes(Encoder().file())
    encoder_tokenizer().save(str(tokenizer))
    return model, tokenizer


def decoder_folder(folder: Path, *, genai: bool = False, shares: bool = False, template: bool = True) -> Path:
    """A folder as exporters write it, for onnxruntime-genai or as Hugging Face has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(DecoderModel(genai=genai).file())
    decoder_tokenizer().save(str(folder / "tokenizer.json"))
    end = decoder_tokenizer().token_to_id(END)
    told = {"chat_template": TEMPLATE} if template else {}
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, **told}))
    if genai:
        names = {"past_key_names": "past_%d.key", "past_value_names": "past_%d.value"}
        inputs = {"input_ids": "input_ids", "attention_mask": "attention_mask", **names}
        model = {
            "context_length": CONTEXT,
            "eos_token_id": end,
            "decoder": {"filename": "model.onnx", "inputs": inputs},
        }
        search = {"past_present_share_buffer": shares}
        (folder / "genai_config.json").write_text(json.dumps({"model": model, "search": search}))
    else:
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT, "eos_token_id": [end]}))
    return folder


class _Graph:
    """Nodes as they are added, with the weights and numbers that they use."""

    def __init__(self, weights: dict[str, Any]) -> None:
        whole = {"zero": [0], "one": [1], "two": [2], "last": [2**31], "middle": [1, 2], "ends": [1, 3]}
        numbers = {"unit": 1.0, "much": 1e4, "root": np.sqrt(WIDTH), "head_root": np.sqrt(HEAD_WIDTH)}
        self._values = {
            **weights,
            **{name: np.array(value, np.int64) for name, value in whole.items()},
            **{name: np.array(value, np.float32) for name, value in numbers.items()},
            "axis": np.array(1, np.int64),
            "nothing": np.array(0, np.float32),
            "ahead": np.array(-1e4, np.float32),
            "parted": np.array([0, 0, HEADS, HEAD_WIDTH], np.int64),
            "whole": np.array([0, 0, WIDTH], np.int64),
            "gain": np.ones(WIDTH, np.float32),
        }
        self._nodes: list[Any] = []

    def add(self, kind: str, *inputs: str, to_: str = "", **attributes: Any) -> str:
        """Add a node; the name of what it gives."""
        name = to_ or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def fused(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add a node of onnxruntime's own that gives more beside; the name of what it gives first."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name, *outputs], domain="com.microsoft", **attributes))
        return name

    def file(self, inputs: list[Any], outputs: list[Any]) -> bytes:
        """The whole as an ONNX file."""
        used = {name for node in self._nodes for name in node.input}
        kept = [numpy_helper.from_array(value, name) for name, value in self._values.items() if name in used]
        graph = helper.make_graph(self._nodes, "text", inputs, outputs, kept)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return made.SerializeToString()


def _page() -> str:
    return str(ROOT / "services" / "gateway" / "src" / "ergonaut_gateway" / "domain" / "tensors.py")


def _weights(seed: int) -> Callable[..., Any]:
    random = np.random.default_rng(seed)
    return lambda *shape: (random.standard_normal(shape) / np.sqrt(WIDTH)).astype(np.float32)


def _softmax(scores: Any) -> Any:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _normed(x: Any) -> Any:
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


def _parted(x: Any) -> Any:
    return x.reshape(len(x), HEADS, HEAD_WIDTH).transpose(1, 0, 2)
