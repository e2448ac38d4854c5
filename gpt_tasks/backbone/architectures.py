"""The model families that we know, in Hugging Face's terms: configuration and tensor names.

A model whose layers were pruned to sizes of their own has a config.json that no other loader takes for one it can
read: its model type begins with "pruned_", and "layer_sizes" lists what each layer has left.

Everything else in the project speaks `DecoderConfig` and our own tensor names, which are the
parameter names of `gpt_tasks.transformer.decoder.Decoder` (linear weights are [out, in]).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig, LayerSizes

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Source:
    """Where one of our tensors lies in a checkpoint, and what to do with it."""

    name: str
    transform: Transform = np.asarray
    restore: Transform = np.asarray
    """the way back; several of ours with one name stand side by side in the last axis"""


@dataclass(frozen=True)
class Family:
    """A group of architectures that differ in configuration only."""

    name: str
    model_types: tuple[str, ...]
    read_config: Callable[[Mapping], DecoderConfig]
    sources: Callable[[DecoderConfig], dict[str, Source]]
    prefix: str
    """What some checkpoints put before every name but the head's, and others leave out."""
    size_keys: Mapping[str, str]
    """our size -> its key in config.json"""
    transposed: bool = False
    """linear layers hold [in, out]"""


def _refuse(model_type: str, setting: str, value: object) -> UserError:
    return UserError(
        f"This {model_type} model has {setting}={value!r} in its config.json, which is not supported. "
        "Take a checkpoint without it."
    )


# Llama family


def _read_llama_config(config: Mapping) -> DecoderConfig:
    model_type = config["model_type"]
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise _refuse(model_type, "hidden_act", config["hidden_act"])
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise _refuse(model_type, "rope_scaling", scaling)
    # Qwen2 has these three biases without saying so, and says with a flag of its own that it has no window.
    qwen = model_type == "qwen2"
    window = config.get("sliding_window") if config.get("use_sliding_window", not qwen) else None
    if qwen and window is not None:
        raise _refuse(model_type, "use_sliding_window", True)
    return DecoderConfig(
        vocabulary_size=config["vocab_size"],
        context_length=config.get("max_position_embeddings", 2048),
        hidden_size=hidden,
        layers=config["num_hidden_layers"],
        query_heads=heads,
        key_value_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or hidden // heads,
        feed_forward_size=config["intermediate_size"],
        norm="rms",
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        positions="rotary",
        rotary_base=config.get("rope_theta", 10_000.0),
        feed_forward="swiglu",
        attention_window=window,
        query_key_value_bias=qwen or config.get("attention_bias", False),
        attention_output_bias=config.get("attention_bias", False) and not qwen,
        feed_forward_bias=config.get("mlp_bias", False),
        tied_embedding=config.get("tie_word_embeddings", False),
    )


def _llama_sources(config: DecoderConfig) -> dict[str, Source]:
    sources = {
        "embedding.weight": Source("model.embed_tokens.weight"),
        "final_norm.weight": Source("model.norm.weight"),
    }
    if not config.tied_embedding:
        sources["head.weight"] = Source("lm_head.weight")
    linears = {
        "attention.query": ("self_attn.q_proj", config.query_key_value_bias),
        "attention.key": ("self_attn.k_proj", config.query_key_value_bias),
        "attention.value": ("self_attn.v_proj", config.query_key_value_bias),
        "attention.output": ("self_attn.o_proj", config.attention_output_bias),
        "feed_forward.gate": ("mlp.gate_proj", config.feed_forward_bias),
        "feed_forward.up": ("mlp.up_proj", config.feed_forward_bias),
        "feed_forward.down": ("mlp.down_proj", config.feed_forward_bias),
    }
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        sources[f"{ours}.attention_norm.weight"] = Source(f"{theirs}.input_layernorm.weight")
        sources[f"{ours}.feed_forward_norm.weight"] = Source(f"{theirs}.post_attention_layernorm.weight")
        for name, (their_name, bias) in linears.items():
            for kind in ("weight", "bias") if bias else ("weight",):
                sources[f"{ours}.{name}.{kind}"] = Source(f"{theirs}.{their_name}.{kind}")
    return sources


# GPT-2 family

_GPT2_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


def _read_gpt2_config(config: Mapping) -> DecoderConfig:
    activation = config.get("activation_function", "gelu_new")
    if activation not in _GPT2_ACTIVATIONS:
        raise _refuse("gpt2", "activation_function", activation)
    for setting in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        if config.get(setting):
            raise _refuse("gpt2", setting, True)
    if not config.get("scale_attn_weights", True):
        raise _refuse("gpt2", "scale_attn_weights", False)
    heads, hidden = config["n_head"], config["n_embd"]
    return DecoderConfig(
        vocabulary_size=config["vocab_size"],
        context_length=config.get("n_positions", 1024),
        hidden_size=hidden,
        layers=config["n_layer"],
        query_heads=heads,
        key_value_heads=heads,
        head_size=hidden // heads,
        feed_forward_size=config.get("n_inner") or 4 * hidden,
        norm="layer",
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        positions="learned",
        feed_forward=_GPT2_ACTIVATIONS[activation],
        query_key_value_bias=True,
        attention_output_bias=True,
        feed_forward_bias=True,
        tied_embedding=config.get("tie_word_embeddings", True),
    )


def _third(index: int) -> Transform:
    """One of query, key and value, which GPT-2 keeps side by side in the last axis, [in, 3 · out]."""
    return lambda tensor: np.split(tensor, 3, axis=-1)[index].T


def _transposed(tensor: np.ndarray) -> np.ndarray:
    """GPT-2's linear layers (Conv1D) hold [in, out]; a bias is left as it is."""
    return tensor.T


def _gpt2_sources(config: DecoderConfig) -> dict[str, Source]:
    sources = {
        "embedding.weight": Source("transformer.wte.weight"),
        "position_embedding.weight": Source("transformer.wpe.weight"),
        "final_norm.weight": Source("transformer.ln_f.weight"),
        "final_norm.bias": Source("transformer.ln_f.bias"),
    }
    if not config.tied_embedding:
        sources["head.weight"] = Source("lm_head.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            sources[f"{ours}.attention_norm.{kind}"] = Source(f"{theirs}.ln_1.{kind}")
            sources[f"{ours}.feed_forward_norm.{kind}"] = Source(f"{theirs}.ln_2.{kind}")
            for index, part in enumerate(("query", "key", "value")):
                sources[f"{ours}.attention.{part}.{kind}"] = Source(
                    f"{theirs}.attn.c_attn.{kind}", _third(index), _transposed
                )
            for name, their_name in (
                ("attention.output", "attn.c_proj"),
                ("feed_forward.up", "mlp.c_fc"),
                ("feed_forward.down", "mlp.c_proj"),
            ):
                sources[f"{ours}.{name}.{kind}"] = Source(f"{theirs}.{their_name}.{kind}", _transposed, _transposed)
    return sources


_LLAMA_SIZES = {
    "vocabulary_size": "vocab_size",
    "layers": "num_hidden_layers",
    "query_heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "hidden_size": "hidden_size",
    "feed_forward_size": "intermediate_size",
}
_GPT2_SIZES = {  # has no key for key/value heads or the heads' size
    "vocabulary_size": "vocab_size",
    "layers": "n_layer",
    "query_heads": "n_head",
    "hidden_size": "n_embd",
    "feed_forward_size": "n_inner",
}
FAMILIES = (
    Family("Llama", ("llama", "mistral", "qwen2"), _read_llama_config, _llama_sources, "model.", _LLAMA_SIZES),
    Family("GPT-2", ("gpt2",), _read_gpt2_config, _gpt2_sources, "transformer.", _GPT2_SIZES, transposed=True),
)
_PRUNED = "pruned_"


def family_of(config: Mapping) -> Family:
    """The family of a config.json.

    Raises:
        UserError: none of ours, or a config.json without a model type.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if isinstance(model_type, str) and model_type.removeprefix(_PRUNED) in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise UserError(f"The model type {model_type!r} is not supported; supported are: {known}.")


def read_config(config: Mapping) -> DecoderConfig:
    """A Hugging Face config.json as ours.

    Raises:
        UserError: a family or a setting that isn't supported, a key that is missing, sizes that can't be.
    """
    family = family_of(config)
    try:
        pruned = config["model_type"].startswith(_PRUNED)
        read = family.read_config({**config, "model_type": config["model_type"].removeprefix(_PRUNED)})
        if not pruned:
            return read
        return replace(read, layer_sizes=tuple(LayerSizes(**sizes) for sizes in config["layer_sizes"]))
    except KeyError as missing:
        raise UserError(f"config.json has no {missing.args[0]!r}, which a {family.name} model needs.") from missing
    except (ValueError, TypeError) as error:
        raise UserError(f"config.json doesn't describe a model that can exist: {error}.") from error


def resized(hugging_face_config: Mapping, config: DecoderConfig) -> dict:
    """A config.json for the same model in other sizes: the family's own, where it can say them."""
    family = family_of(hugging_face_config)
    written = {key: value for key, value in hugging_face_config.items() if key != "layer_sizes"}
    written["model_type"] = written["model_type"].removeprefix(_PRUNED)
    written |= {key: getattr(config, ours) for ours, key in family.size_keys.items()}
    if config.layer_sizes is None and family.read_config(written) == config:
        return written
    like_all = LayerSizes(config.query_heads, config.key_value_heads, config.feed_forward_size)
    sizes = config.layer_sizes or (like_all,) * config.layers
    written["model_type"] = f"{_PRUNED}{written['model_type']}"
    return {**written, "layer_sizes": [asdict(layer) for layer in sizes]}


def is_uniform(hugging_face_config: Mapping) -> bool:
    """Whether other loaders know this model too: no layer has sizes of its own."""
    return not hugging_face_config["model_type"].startswith(_PRUNED)


def checkpoint_tensors(hugging_face_config: Mapping, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our tensors under the family's names and in its shapes, as its checkpoints hold them."""
    parts: dict[str, list[np.ndarray]] = {}
    for name, source in family_of(hugging_face_config).sources(read_config(hugging_face_config)).items():
        parts.setdefault(source.name, []).append(source.restore(weights[name]))
    return {name: np.ascontiguousarray(np.concatenate(tensors, axis=-1)) for name, tensors in parts.items()}


def adapter_modules(config: Mapping) -> dict[str, tuple[str, ...]]:
    """The linear layers that an adapter may correct: their name in the transformers model -> our layers.

    GPT-2's `c_attn` is three of ours, which share the adapter's A; everywhere else it is one for one.

    Args:
        config: a Hugging Face config.json

    Raises:
        UserError: see `read_config`.
    """
    modules: dict[str, tuple[str, ...]] = {}
    for name, source in family_of(config).sources(read_config(config)).items():
        if name.startswith("blocks.") and name.endswith(".weight") and "norm" not in name:
            theirs = source.name.removesuffix(".weight")
            modules[theirs] = (*modules.get(theirs, ()), name.removesuffix(".weight"))
    return modules
