"""What the encoding graph and its engine agree on: names of inputs and outputs."""

from gpt_tasks.transformer.config import DecoderConfig

LAST_HIDDEN = "last_hidden_state"
_FEATURE_LAYERS = 4


def lora_inputs(name: str) -> tuple[str, str]:
    """The inputs for A [in, rank] and B [rank, out] of a joined layer ("blocks.0.attention.query_key_value")."""
    return f"{name}.lora_A", f"{name}.lora_B"


def layer_output(layers: int) -> str:
    """The output that has gone through so many layers."""
    return f"hidden_state_{layers}"


def feature_layers(config: DecoderConfig) -> list[int]:
    """How many layers the features of an untrained backbone have gone through: at a fifth, two, three and four
    fifths of its depth. No single layer is as good as these together."""
    fifths = (round(config.layers * fifth / (_FEATURE_LAYERS + 1)) for fifth in range(1, _FEATURE_LAYERS + 1))
    return sorted({max(1, layers) for layers in fifths})
