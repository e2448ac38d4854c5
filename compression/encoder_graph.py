"""The decoder as an encoder: hidden states of a text read at once, no KV cache, no head, adapters as arguments.

    input_ids            int64 [batch_size, sequence_length]
    position_ids         int64 [batch_size, sequence_length], for models with learned positions only
    -> last_hidden_state   float [batch_size, sequence_length, hidden], after the last norm
       hidden_state_N      float, the same, what N layers leave in the residual stream, for each N of `feature_layers`

Rows may be padded at their end only: attention is causal, so that no token sees padding, and no mask is needed.

Each linear layer of a block (joined as `joined_matrices` says) has two more inputs, which other loaders don't see:
`<layer>.lora_A` [in, rank] and `<layer>.lora_B` [rank, out]. By default their rank is 0, which adds nothing.
"""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from compression.decoder_graph import DecoderGraph
from compression.graph import Graph
from compression.linear import NumberFormat
from gpt_tasks.backbone.encoder_interface import LAST_HIDDEN, feature_layers, layer_output, lora_inputs
from gpt_tasks.backbone.weights import DecoderWeights


def build_encoder_graph(
    graph: Graph, weights: DecoderWeights, number_format: NumberFormat, done: Callable[[], None] = lambda: None
) -> None:
    """Writes the encoder into `graph`.

    Args:
        done: called after every layer, and after the embedding
    """
    _EncoderGraph(graph, weights, number_format).build(done)


class _EncoderGraph(DecoderGraph):
    def __init__(self, graph: Graph, weights: DecoderWeights, number_format: NumberFormat) -> None:
        super().__init__(graph, weights, number_format)
        self._shapes: set[str] = set()  # made already

    def build(self, done: Callable[[], None]) -> None:
        graph, config = self.graph, self.config
        shape = ["batch_size", "sequence_length"]
        ids = graph.input("input_ids", TensorProto.INT64, shape)
        position_ids = graph.input("position_ids", TensorProto.INT64, shape) if config.positions != "rotary" else ""
        self._lengths(ids)
        outputs = self._layers(ids, position_ids, done)
        named = {LAST_HIDDEN: outputs[-1], **{layer_output(n): outputs[n - 1] for n in feature_layers(config)}}
        for name, value in named.items():
            self._in_rows(value, config.hidden_size, name)
            graph.output(name, TensorProto.FLOAT, [*shape, config.hidden_size])

    def _lengths(self, ids: str) -> None:
        """What the attention asks for: every row is as long as the longest, and nothing is shut out."""
        graph = self.graph
        self._shape = graph.node("Shape", [ids], "ids_shape")  # [2]
        one = graph.tensor("one", np.array([1], np.int64))
        batch = graph.node("Shape", [ids], "batch_shape", start=0, end=1)  # [1]
        length = graph.node("Shape", [ids], "sequence_shape", start=1, end=2)  # [1]
        last = graph.node("Expand", [graph.node("Sub", [length, one], "last_position"), batch], "last_positions")
        self.last_positions = graph.node("Cast", [last], "seqlens_k", to=TensorProto.INT32)
        scalar = graph.node("Squeeze", [length], "length_scalar")
        self.total = graph.node("Cast", [scalar], "total_sequence_length", to=TensorProto.INT32)
        self.bias = ""

    def _embed(self, ids: str, position_ids: str) -> str:
        return self._flat(super()._embed(ids, position_ids), self.config.hidden_size, "embedding.flat")

    def _attend(self, layer: int, packed: str) -> str:
        name, config = f"blocks.{layer}.attention", self.config.of_layer(layer)
        rows = self._in_rows(packed, config.query_size + 2 * config.key_value_size, f"{name}.rows")
        return self._flat(super()._attend(layer, rows), config.query_size, f"{name}.flat")

    def _flat(self, x: str, width: int, name: str) -> str:
        """[batch, sequence, width] -> [batch · sequence, width]: products and their corrections are of matrices."""
        shape = self.graph.tensor(f"flat_{width}", np.array([-1, width], np.int64))
        return self.graph.node("Reshape", [x, shape], name)

    def _in_rows(self, x: str, width: int, name: str) -> str:
        """[batch · sequence, width] -> [batch, sequence, width]"""
        shape = f"rows_{width}"
        if shape not in self._shapes:
            size = self.graph.tensor(f"width_{width}", np.array([width], np.int64))
            self._shapes.add(self.graph.node("Concat", [self._shape, size], shape, axis=0))
        return self.graph.node("Reshape", [x, shape], name, [name])

    def _past(self, layer: int) -> list[str]:
        return ["", ""]  # a text is read at once

    def _linear(self, name: str, x: str) -> str:
        return self._corrected(name, x, super()._linear(name, x))

    def _joined(self, module: str, name: str, parts: tuple[str, ...], x: str) -> str:
        return self._corrected(f"{module}.{name}", x, super()._joined(module, name, parts, x))

    def _corrected(self, name: str, x: str, y: str) -> str:
        """y + x A B"""
        graph, (in_size, out_size) = self.graph, self._sizes(name)
        (a, b), rank = lora_inputs(name), f"{name}.rank"
        graph.overridable(a, np.zeros((in_size, 0), np.float32), [in_size, rank])
        graph.overridable(b, np.zeros((0, out_size), np.float32), [rank, out_size])
        narrow = graph.node("MatMul", [x, a], f"{name}.lora_narrow")
        return graph.node("Gemm", [narrow, b, y], f"{name}.corrected")

    def _sizes(self, name: str) -> tuple[int, int]:
        _, layer, part = name.split(".", 2)
        config = self.config.of_layer(int(layer))
        widths = {
            "attention.query_key_value": (config.hidden_size, config.query_size + 2 * config.key_value_size),
            "attention.output": (config.query_size, config.hidden_size),
            "feed_forward.gate_up": (config.hidden_size, 2 * config.feed_forward_size),
            "feed_forward.up": (config.hidden_size, config.feed_forward_size),
            "feed_forward.down": (config.feed_forward_size, config.hidden_size),
        }
        return widths[part]
