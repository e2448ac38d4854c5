"""The decoder as an ONNX graph of onnxruntime's fused operators, written node by node.

About ten nodes a layer: norm, one product for query, key and value, attention with rotary positions
and KV cache inside, one product, norm with the residual sum, gate and up, down.

Interface (what transformers, optimum and transformers.js expect of an exported decoder):

    input_ids                   int64 [batch_size, sequence_length]
    attention_mask              int64 [batch_size, total_sequence_length]
    position_ids                int64 [batch_size, sequence_length]
    past_key_values.N.key       float [batch_size, key_value_heads, past_sequence_length, head_size]  (and .value)
    -> logits                   float [batch_size, sequence_length, vocabulary]
       present.N.key            float [batch_size, key_value_heads, total_sequence_length, head_size] (and .value)

Rotary positions are counted from the beginning of each row, padding included, and `position_ids` is
not read: rotary attention sees distances only, so a left-padded row and one that begins at another
number come out the same. (The kernel would take the first number of a batch for all its rows while it
reads the prompt, and each row's own afterwards, which tears padded rows apart; rotating outside of it
costs 4 % of decoding.) Learned positions are looked up by `position_ids`.

Where a caller binds a past and its present to one and the same buffer, longer than the total, the
attention writes the new tokens into it in place.
"""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from compression.graph import Graph
from compression.linear import NumberFormat
from gpt_tasks.backbone.weights import DecoderWeights

FIRST_LOGIT = "first_logit_position"
"""An overridable input that other loaders don't see: from which position on logits are computed
(0: all; -1: the last one only)."""
_MASKED = 1e9  # subtracted from a score; finite, so that a row of padding alone gives no NaN


def build_decoder_graph(
    graph: Graph, weights: DecoderWeights, number_format: NumberFormat, done: Callable[[], None] = lambda: None
) -> None:
    """Writes the whole decoder into `graph`.

    Args:
        done: called after every layer, and after the embedding and the head
    """
    DecoderGraph(graph, weights, number_format).build(done)


class DecoderGraph:
    """The decoder's parts as nodes; `build` puts them together."""

    def __init__(self, graph: Graph, weights: DecoderWeights, number_format: NumberFormat) -> None:
        self.graph = graph
        self.weights = weights
        self.config = weights.config
        self.format = number_format

    def build(self, done: Callable[[], None]) -> None:
        graph, config = self.graph, self.config
        ids = graph.input("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])
        mask = graph.input("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"])
        position_ids = graph.input("position_ids", TensorProto.INT64, ["batch_size", "sequence_length"])
        self._lengths_and_bias(ids, mask)
        x = self._layers(ids, position_ids, done)[-1]
        embedding = self.weights["embedding.weight"]
        first = graph.overridable(FIRST_LOGIT, np.array([0], np.int64))
        end = graph.tensor("end", np.array([np.iinfo(np.int64).max]))
        axis = graph.tensor("sequence_axis", np.array([1], np.int64))
        x = graph.node("Slice", [x, first, end, axis], "wanted_positions")
        if config.tied_embedding:
            logits = self.format.tied_head(graph, "head", x, "embedding", embedding)
        else:
            logits = self.format.linear(graph, "head", x, self.weights["head.weight"], None)
        graph.node("Identity", [logits], "head.logits", ["logits"])
        graph.output("logits", TensorProto.FLOAT, ["batch_size", "logits_length", config.vocabulary_size])
        for layer in range(config.layers):
            for kind in ("key", "value"):
                shape = self._cache_shape(layer, "total_sequence_length")
                graph.output(f"present.{layer}.{kind}", TensorProto.FLOAT, shape)
        done()

    def _layers(self, ids: str, position_ids: str, done: Callable[[], None]) -> list[str]:
        """From ids to hidden states. Returns what each layer leaves in the residual stream, and last of all
        the hidden states after the final norm.

        Args:
            position_ids: read by models with learned positions only
        """
        config = self.config
        if config.positions == "rotary":
            self._rotary_tables()
        residual = self._embed(ids, position_ids)
        done()
        x = self._norm("blocks.0.attention_norm", residual)
        outputs = []
        for layer in range(config.layers):
            x, residual = self._block(layer, x, residual)
            outputs.append(residual)
            done()
        # x is normed by final_norm here: the last block's feed-forward was followed by it.
        return [*outputs, x]

    def _embed(self, ids: str, position_ids: str) -> str:
        graph = self.graph
        rows = self.format.embedding(graph, "embedding", ids, self.weights["embedding.weight"])
        if self.config.positions == "rotary":
            return rows
        table = graph.tensor("position_embedding.weight", self.weights["position_embedding.weight"])
        positions = graph.node("Gather", [table, position_ids], "position_embedding.rows")
        return graph.node("Add", [rows, positions], "embedding.sum")

    def _cache_shape(self, layer: int, length: str) -> list[int | str]:
        return ["batch_size", self.config.of_layer(layer).key_value_heads, length, self.config.head_size]

    def _lengths_and_bias(self, ids: str, mask: str) -> None:
        """What the attention asks for: lengths as int32, and a bias that shuts out padding.

        bias: [batch_size, 1, sequence_length, total_sequence_length], 0 or -10^9
        """
        graph = self.graph
        total = graph.node("Shape", [mask], "total_shape", start=1, end=2)  # [1]
        one = graph.tensor("one", np.array([1], np.int64))
        batch = graph.node("Shape", [ids], "batch_shape", start=0, end=1)  # [1]
        last = graph.node("Sub", [total, one], "last_position")  # [1]
        last = graph.node("Expand", [last, batch], "last_positions")  # [batch]
        self.last_positions = graph.node("Cast", [last], "seqlens_k", to=TensorProto.INT32)
        scalar = graph.node("Squeeze", [total], "total_scalar")
        self.total = graph.node("Cast", [scalar], "total_sequence_length", to=TensorProto.INT32)

        seen = graph.node("Cast", [mask], "seen", to=TensorProto.FLOAT)  # [batch, total]
        seen = graph.node("Sub", [seen, graph.tensor("one_float", np.array([1], np.float32))], "unseen")
        bias = graph.node("Mul", [seen, graph.tensor("masked", np.array([_MASKED], np.float32))], "bias_row")
        axes = graph.tensor("middle_axes", np.array([1, 2], np.int64))
        bias = graph.node("Unsqueeze", [bias, axes], "bias_rows")  # [batch, 1, 1, total]
        sequence = graph.node("Shape", [ids], "sequence_shape", start=1, end=2)
        shape = graph.node("Concat", [batch, one, sequence, total], "bias_shape", axis=0)
        self.bias = graph.node("Expand", [bias, shape], "attention_bias")

    def _rotary_tables(self) -> None:
        """cos and sin of p · base^(-2i/d): [context, d/2] each, in fp64 before rounding."""
        config = self.config
        frequency = config.rotary_base ** (-np.arange(0, config.head_size, 2, dtype=np.float64) / config.head_size)
        angle = np.arange(config.context_length)[:, None] * frequency
        self.rotary_tables = [
            self.graph.tensor("rotary.cosine", np.cos(angle).astype(np.float32)),
            self.graph.tensor("rotary.sine", np.sin(angle).astype(np.float32)),
        ]

    def _norm_parameters(self, name: str) -> list[str]:
        kinds = ("weight", "bias") if self.config.norm == "layer" else ("weight",)
        return [self.graph.tensor(f"{name}.{kind}", self.weights[f"{name}.{kind}"]) for kind in kinds]

    def _norm(self, name: str, x: str) -> str:
        operator = "LayerNormalization" if self.config.norm == "layer" else "SimplifiedLayerNormalization"
        return self.graph.node(
            operator, [x, *self._norm_parameters(name)], f"{name}.output", axis=-1, epsilon=self.config.norm_epsilon
        )

    def _add_and_norm(self, name: str, x: str, residual: str) -> tuple[str, str]:
        """Norm(x + residual), and the sum itself."""
        operator = "SkipLayerNormalization" if self.config.norm == "layer" else "SkipSimplifiedLayerNormalization"
        normed, total = f"{name}.output", f"{name}.sum"
        self.graph.fused(
            operator,
            [x, residual, *self._norm_parameters(name)],
            name,
            [normed, "", "", total],
            epsilon=self.config.norm_epsilon,
        )
        return normed, total

    def _block(self, layer: int, x: str, residual: str) -> tuple[str, str]:
        """x: normed, residual: not; returns the two for the next block (or for the head)."""
        block = f"blocks.{layer}"
        x = self._attention(layer, x)
        x, residual = self._add_and_norm(f"{block}.feed_forward_norm", x, residual)
        x = self._feed_forward(f"{block}.feed_forward", x)
        last = layer == self.config.layers - 1
        return self._add_and_norm("final_norm" if last else f"blocks.{layer + 1}.attention_norm", x, residual)

    def _attention(self, layer: int, x: str) -> str:
        name = f"blocks.{layer}.attention"
        packed = self._joined(name, "query_key_value", ("query", "key", "value"), x)
        return self._linear(f"{name}.output", self._attend(layer, packed))

    def _attend(self, layer: int, packed: str) -> str:
        """packed: query, key and value side by side -> the heads' outputs side by side"""
        graph, config, name = self.graph, self.config.of_layer(layer), f"blocks.{layer}.attention"
        past = self._past(layer)
        rotary = config.positions == "rotary"
        tables = self.rotary_tables if rotary else ["", ""]
        gathered, *_ = graph.fused(
            "GroupQueryAttention",
            [packed, "", "", *past, self.last_positions, self.total, *tables, "", self.bias],
            name,
            [f"{name}.gathered", f"present.{layer}.key", f"present.{layer}.value"],
            num_heads=config.query_heads,
            kv_num_heads=config.key_value_heads,
            do_rotary=int(rotary),
            local_window_size=config.attention_window or -1,
        )
        return gathered

    def _past(self, layer: int) -> list[str]:
        """Keys and values of the tokens read before."""
        shape = self._cache_shape(layer, "past_sequence_length")
        return [
            self.graph.input(f"past_key_values.{layer}.{kind}", TensorProto.FLOAT, shape) for kind in ("key", "value")
        ]

    def _feed_forward(self, name: str, x: str) -> str:
        graph = self.graph
        if self.config.feed_forward == "swiglu":
            both = self._joined(name, "gate_up", ("gate", "up"), x)
            gate, up = graph.node("Split", [both], f"{name}.split", 2, axis=-1, num_outputs=2)
            gate = graph.fused("QuickGelu", [gate], f"{name}.silu", alpha=1.0)  # x · σ(1 · x)
            x = graph.node("Mul", [gate, up], f"{name}.gated")
        else:
            up = self._linear(f"{name}.up", x)
            x = graph.fused("FastGelu" if self.config.feed_forward == "gelu_tanh" else "Gelu", [up], f"{name}.gelu")
        return self._linear(f"{name}.down", x)

    def _linear(self, name: str, x: str) -> str:
        return self.format.linear(self.graph, name, x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _joined(self, module: str, name: str, parts: tuple[str, ...], x: str) -> str:
        """Linear layers with the same input, as one: fewer and larger products are faster."""
        weight = np.concatenate([self.weights[f"{module}.{part}.weight"] for part in parts])
        biases = [self.weights.get(f"{module}.{part}.bias") for part in parts]
        bias = None if biases[0] is None else np.concatenate(biases)
        return self.format.linear(self.graph, f"{module}.{name}", x, weight, bias)
