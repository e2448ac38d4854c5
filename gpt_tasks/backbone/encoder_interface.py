"""What the encoding graph and its engine agree on: names of inputs and outputs."""

from gpt_tasks.transformer.config import DecoderConfig

LAST_HIDDEN = "last_hidden_state"
MIDDLE_HIDDEN = "middle_hidden_state"


def lora_inputs(name: str) -> tuple[str, str]:
    """The inputs for A [in, rank] and B [rank, out] of a joined layer ("blocks.0.attention.query_key_value")."""
    return f"{name}.lora_A", f"{name}.lora_B"


def middle_layer(config: DecoderConfig) -> int:
    """How many layers `middle_hidden_state` has gone through: a third. A frozen decoder's features are best
    there for what a text is about; later layers turn to the next token (measured: `README.md`, Teach)."""
    return max(1, config.layers // 3)
