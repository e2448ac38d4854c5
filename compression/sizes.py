"""How large an exported model will be."""

from gpt_tasks.transformer.config import DecoderConfig

_SEQUENCE = 512
_LAYER_NODES = 25_000
"""bytes of a layer's nodes and small tensors"""


def parameters(config: DecoderConfig) -> int:
    """Weights in the matrices, embedding and head: what is quantized."""
    tables = (1 if config.tied_embedding else 2) * config.vocabulary_size * config.hidden_size
    return tables + sum(_in_layer(config.of_layer(layer)) for layer in range(config.layers))


def _in_layer(config: DecoderConfig) -> int:
    attention = 2 * config.hidden_size * (config.query_size + config.key_value_size)
    feed_forward = (3 if config.feed_forward == "swiglu" else 2) * config.hidden_size * config.feed_forward_size
    return attention + feed_forward


def fixed_bytes(config: DecoderConfig) -> int:
    """What is not quantized, at the most: norms, positions, the matrices that sum up blocks, the graph itself."""
    width = config.head_size if config.positions == "rotary" else config.hidden_size
    norms = (2 * config.layers + 1) * config.hidden_size
    inner = {config.of_layer(layer).feed_forward_size for layer in range(config.layers)}
    block_sums = sum(columns * (columns // 32 + 32) for columns in {config.hidden_size, *inner})
    return 4 * (config.context_length * width + norms + block_sums) + config.layers * _LAYER_NODES


def size_bytes(config: DecoderConfig, bits_per_weight: float) -> int:
    """Of a precision's files, with so many bits for a weight, scales included."""
    return int(parameters(config) * bits_per_weight / 8) + fixed_bytes(config)


def export_memory_bytes(config: DecoderConfig, calibrates: bool, checks: bool) -> int:
    """The most that an export has in memory at a time, roughly.

    Without calibration the weights are streamed, one matrix at a time. A calibration holds the decoder, the weights as
    they are scaled, one byte a weight for each of three ways, and activations; a check holds the decoder in PyTorch
    beside fp32's session.
    """
    base = 400 * 10**6
    weights = 4 * parameters(config)
    if calibrates:
        return base + 4 * weights + 16 * _SEQUENCE * (4 * config.vocabulary_size // 8 + 40 * config.feed_forward_size)
    return base + (2 * weights if checks else 12 * config.vocabulary_size * config.hidden_size)


def zeros_memory_bytes(config: DecoderConfig, tokens: int) -> int:
    """The most that Wanda and SparseGPT have in memory at a time, roughly: two decoders and the weights, and of each
    token what a block of either reads and computes on its way."""
    return 600 * 10**6 + 3 * 4 * parameters(config) + 4 * tokens * 24 * config.hidden_size
