"""Which matrices of a block the graph joins: those that share an input are one product, which is faster."""

from gpt_tasks.transformer.config import DecoderConfig


def joined_matrices(config: DecoderConfig) -> dict[str, tuple[str, ...]]:
    """The matrices of a block as the graph joins them: name -> the linear layers that share an input."""
    feed_forward = (
        {"feed_forward.gate_up": ("feed_forward.gate", "feed_forward.up")}
        if config.feed_forward == "swiglu"
        else {"feed_forward.up": ("feed_forward.up",)}
    )
    return {
        "attention.query_key_value": ("attention.query", "attention.key", "attention.value"),
        "attention.output": ("attention.output",),
        **feed_forward,
        "feed_forward.down": ("feed_forward.down",),
    }


def norm_readers(config: DecoderConfig) -> dict[str, tuple[str, tuple[str, ...]]]:
    """A block's norms, and what reads them: norm -> (the joined matrix's name, its parts)"""
    joined = joined_matrices(config)
    first = "feed_forward.gate_up" if config.feed_forward == "swiglu" else "feed_forward.up"
    attention = "attention.query_key_value"
    return {"attention_norm": (attention, joined[attention]), "feed_forward_norm": (first, joined[first])}
