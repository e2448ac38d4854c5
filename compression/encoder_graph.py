"""The decoder as an encoder: hidden states of a text read at once, no KV cache, no head, adapters as arguments.

    input_ids            int64 [batch_size, sequence_length]
    attention_mask       int64 [batch_size, sequence_length] of 0 (padding) and 1
    position_ids         int64 [batch_size, sequence_length], for models with learned positions only
    -> last_hidden_state   float [batch_size, sequence_length, hidden], after the last norm
       hidden_state_N      float, the same, what N layers leave in the residual stream, for each N of `feature_layers`

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
    def build(self, done: Callable[[], None]) -> None:
        graph, config = self.graph, self.config
        shape = ["batch_size", "sequence_length"]
        ids = graph.input("input_ids", TensorProto.INT64, shape)
        mask = graph.input("attention_mask", TensorProto.INT64, shape)
        position_ids = graph.input("position_ids", TensorProto.INT64, shape) if config.positions != "rotary" else ""
        self._lengths_and_bias(ids, mask)
        outputs = self._layers(ids, position_ids, done)
        named = {LAST_HIDDEN: outputs[-1], **{layer_output(n): outputs[n - 1] for n in feature_layers(config)}}
        for name, value in named.items():
            graph.node("Identity", [value], f"{name}.copy", [name])
            graph.output(name, TensorProto.FLOAT, [*shape, config.hidden_size])

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
        correction = graph.node("MatMul", [narrow, b], f"{name}.lora")
        return graph.node("Add", [y, correction], f"{name}.corrected")

    def _sizes(self, name: str) -> tuple[int, int]:
        config, part = self.config, name.split(".", 2)[2]
        widths = {
            "attention.query_key_value": (config.hidden_size, config.query_size + 2 * config.key_value_size),
            "attention.output": (config.query_size, config.hidden_size),
            "feed_forward.gate_up": (config.hidden_size, 2 * config.feed_forward_size),
            "feed_forward.up": (config.hidden_size, config.feed_forward_size),
            "feed_forward.down": (config.feed_forward_size, config.hidden_size),
        }
        return widths[part]
