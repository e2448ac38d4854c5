"""Tiny random models of every variant, made by transformers: the independent reference of many tests."""

from copy import deepcopy
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

VOCABULARY = 300

LLAMA = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=128,
    bos_token_id=0,
    eos_token_id=1,
    initializer_range=0.1,
)
_GPT2 = dict(
    vocab_size=VOCABULARY,
    n_embd=64,
    n_layer=3,
    n_head=4,
    n_positions=128,
    bos_token_id=0,
    eos_token_id=1,
    initializer_range=0.1,
)

VARIANTS = {
    "llama": LlamaConfig(**LLAMA, tie_word_embeddings=True, rope_theta=100_000.0),
    "llama_untied": LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "llama_biases": LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral_window": MistralConfig(**LLAMA, sliding_window=8),
    "qwen2": Qwen2Config(**{key: value for key, value in LLAMA.items() if key != "head_dim"}, tie_word_embeddings=True),
    "gpt2": GPT2Config(**_GPT2),
    "gpt2_untied_gelu": GPT2Config(**_GPT2, activation_function="gelu", tie_word_embeddings=False),
}


def make(variant: str, seed: int = 0) -> torch.nn.Module:
    """A random model in evaluation mode; biases and norms are random too, so that none can be forgotten unseen."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(deepcopy(VARIANTS[variant]), attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "norm" in name or "ln_" in name else 0.0, 0.1)
    return model


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level with 256 bytes, two control tokens and a few merges: 300 ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "t"), ("Ġt", "he")]
    tokens = ["<s>", "</s>", *alphabet, *("".join(pair) for pair in merges)]
    tokens += [f"<unused{n}>" for n in range(VOCABULARY - len(tokens))]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = (
        "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    )
    return fast


def save(variant: str, folder: Path, seed: int = 0) -> torch.nn.Module:
    """Writes the model and its tokenizer as transformers does, and returns the model."""
    model = make(variant, seed)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return model
