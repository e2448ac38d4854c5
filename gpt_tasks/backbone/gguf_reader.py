"""Reads a GGUF file of the Llama family (llama.cpp's format) into Hugging Face's terms."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np

from gpt_tasks.errors import UserError

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class GgufFile(Mapping[str, np.ndarray]):
    """The tensors of a GGUF file under their Hugging Face names, dequantized to fp32 when read.

    Raises:
        UserError: not a GGUF file, or not of the Llama family.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, OSError, KeyError, IndexError) as error:
            raise UserError(f"{path} can't be read as a GGUF file ({error}). Fetch it again.") from error
        architecture = self.field("general.architecture")
        if architecture != "llama":
            raise UserError(
                f"{path} holds a {architecture!r} model; only GGUF files of the Llama family are supported."
            )
        self._tensors = {_hugging_face_name(tensor.name): tensor for tensor in self._reader.tensors}

    def field(self, key: str):
        """A metadata value, or None where the file hasn't got it."""
        field = self._reader.get_field(key)
        return None if field is None else field.contents()

    def config(self) -> dict:
        """The config.json that this model would have on a hub."""
        heads = self.field("llama.attention.head_count")
        hidden = self.field("llama.embedding_length")
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.field("llama.vocab_size"),
            "max_position_embeddings": self.field("llama.context_length"),
            "hidden_size": hidden,
            "num_hidden_layers": self.field("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.field("llama.attention.head_count_kv") or heads,
            "head_dim": self.field("llama.rope.dimension_count") or hidden // heads,
            "intermediate_size": self.field("llama.feed_forward_length"),
            "hidden_act": "silu",
            "rms_norm_eps": self.field("llama.attention.layer_norm_rms_epsilon"),
            "rope_theta": self.field("llama.rope.freq_base") or 10_000.0,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": "lm_head.weight" not in self,
            "bos_token_id": self.field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.field("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.field("tokenizer.ggml.padding_token_id"),
            "torch_dtype": "float32",
        }

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        heads = {"q_proj": "llama.attention.head_count", "k_proj": "llama.attention.head_count_kv"}
        for part, key in heads.items():
            if f".{part}." in name:
                return _halves_from_pairs(values, self.field(key))
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _hugging_face_name(name: str) -> str:
    if name in _OUTER_NAMES:
        return _OUTER_NAMES[name]
    match name.split("."):
        case ["blk", layer, part, kind] if part in _LAYER_NAMES:
            return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"
    return name


def _halves_from_pairs(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of the rows of query and key: it turns neighbouring pairs
    (0, 1), (2, 3), ..., where Hugging Face's Llama turns (i, i + d/2)."""
    rows = weight.reshape(heads, -1, 2, *weight.shape[1:])  # [heads, d/2, 2, ...]
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)
