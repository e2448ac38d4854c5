"""What a decoder-only Transformer looks like: sizes and choices, no weights."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class LayerSizes:
    """What may differ from layer to layer, in a model whose layers were made smaller one by one."""

    query_heads: int
    key_value_heads: int
    feed_forward_size: int


@dataclass(frozen=True)
class DecoderConfig:
    """One definition for the Llama family (RMSNorm, rotary positions, SwiGLU, grouped heads)
    and the GPT-2 family (LayerNorm with bias, learned positions, GELU, biases everywhere).

    Sizes count numbers (not bytes); lengths count tokens.

    Raises:
        ValueError: sizes that do not fit each other, named.
    """

    vocabulary_size: int
    context_length: int
    """The most tokens the model reads at once."""
    hidden_size: int
    layers: int
    query_heads: int
    key_value_heads: int
    """Fewer than `query_heads`: each key/value head serves a group of query heads."""
    head_size: int
    feed_forward_size: int
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-5
    positions: Literal["rotary", "learned", "sinusoidal"] = "rotary"
    rotary_base: float = 10_000.0
    feed_forward: Literal["swiglu", "gelu", "gelu_tanh"] = "swiglu"
    attention_window: int | None = None
    """A token sees this many latest tokens, itself included (Mistral); None: all of them."""
    query_key_value_bias: bool = False
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    tied_embedding: bool = True
    """The LM head is the token embedding: p(w) = softmax(h · e(w))."""
    layer_sizes: tuple[LayerSizes, ...] | None = None
    """One a layer, where layers differ; the sizes above are then those before anything was removed. None: all alike."""

    def __post_init__(self) -> None:
        for name in (
            "vocabulary_size",
            "context_length",
            "hidden_size",
            "layers",
            "query_heads",
            "key_value_heads",
            "head_size",
            "feed_forward_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.query_heads % self.key_value_heads:
            raise ValueError(
                f"{self.query_heads} query heads can't be shared out evenly over {self.key_value_heads} key/value heads"
            )
        if self.layer_sizes is not None:
            if len(self.layer_sizes) != self.layers:
                raise ValueError(f"{len(self.layer_sizes)} layers' sizes are given for {self.layers} layers")
            for layer in range(self.layers):
                self.of_layer(layer)  # checks it
        if self.positions == "rotary" and self.head_size % 2:
            raise ValueError(f"rotary positions turn pairs of numbers: head size {self.head_size} is odd")

    def of_layer(self, layer: int) -> "DecoderConfig":
        """The same, with one layer's own sizes in the place of those of all."""
        if self.layer_sizes is None:
            return self
        sizes = self.layer_sizes[layer]
        return replace(
            self,
            query_heads=sizes.query_heads,
            key_value_heads=sizes.key_value_heads,
            feed_forward_size=sizes.feed_forward_size,
            layer_sizes=None,
        )

    @property
    def query_size(self) -> int:
        return self.query_heads * self.head_size

    @property
    def key_value_size(self) -> int:
        return self.key_value_heads * self.head_size
