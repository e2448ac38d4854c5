"""The shapes of a decoder's tensors, by name, from its configuration alone."""

from gpt_tasks.transformer.config import DecoderConfig


def tensor_shape(config: DecoderConfig, name: str) -> tuple[int, ...]:
    """Of a parameter of `Decoder`, such as "blocks.0.attention.query.weight".

    Raises:
        KeyError: no such parameter.
    """
    module, _, kind = name.rpartition(".")
    part = ".".join(module.split(".")[2:]) if module.startswith("blocks.") else module
    if module.startswith("blocks."):
        config = config.of_layer(int(module.split(".")[1]))
    if part.endswith("norm"):
        return (config.hidden_size,)
    rows, columns = {
        "embedding": (config.vocabulary_size, config.hidden_size),
        "head": (config.vocabulary_size, config.hidden_size),
        "position_embedding": (config.context_length, config.hidden_size),
        "attention.query": (config.query_size, config.hidden_size),
        "attention.key": (config.key_value_size, config.hidden_size),
        "attention.value": (config.key_value_size, config.hidden_size),
        "attention.output": (config.hidden_size, config.query_size),
        "feed_forward.gate": (config.feed_forward_size, config.hidden_size),
        "feed_forward.up": (config.feed_forward_size, config.hidden_size),
        "feed_forward.down": (config.hidden_size, config.feed_forward_size),
    }[part]
    return (rows, columns) if kind == "weight" else (rows,)
