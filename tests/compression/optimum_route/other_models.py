"""Tiny random models of families that go through optimum, made by transformers."""

from pathlib import Path

import torch
import transformers

from tests.tiny_models import VOCABULARY, make_tokenizer

_SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    max_position_embeddings=128,
    initializer_range=0.1,
)
_ENDS = dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
_DECODER = dict(decoder_start_token_id=0, d_model=64)
FAMILIES = {
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**_SIZES, **_ENDS}),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {**_SIZES, **_ENDS, "ffn_dim": 96, "word_embed_proj_dim": 64, "init_std": 0.1},
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        dict(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, initializer_range=0.1, **_ENDS),
    ),
    "falcon": ("FalconForCausalLM", "FalconConfig", {**_SIZES, **_ENDS}),
    "bert": ("BertForMaskedLM", "BertConfig", _SIZES),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", {**_SIZES, **_ENDS, "max_position_embeddings": 130}),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        dict(
            vocab_size=VOCABULARY,
            dim=64,
            n_layers=2,
            n_heads=4,
            hidden_dim=96,
            max_position_embeddings=128,
            initializer_range=0.1,
        ),
    ),
    "electra": ("ElectraForTokenClassification", "ElectraConfig", {**_SIZES, "embedding_size": 64}),
    "deberta": ("DebertaV2Model", "DebertaV2Config", _SIZES),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        dict(
            vocab_size=VOCABULARY,
            d_kv=16,
            d_ff=96,
            num_layers=2,
            num_heads=4,
            initializer_factor=3.0,
            eos_token_id=1,
            pad_token_id=1,
            tie_word_embeddings=False,
            **_DECODER,
        ),
    ),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        dict(
            vocab_size=VOCABULARY,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            max_position_embeddings=128,
            init_std=0.3,
            **_ENDS,
            **_DECODER,
        ),
    ),
}


def save(family: str, folder: Path, **changed: object) -> torch.nn.Module:
    """Writes the model and a tokenizer as transformers does, and returns the model."""
    model_class, config_class, settings = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**{**settings, **changed})
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and norms, so that none can be forgotten unseen
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    tokenizer = make_tokenizer()
    if "Masked" in model_class:
        tokenizer.mask_token = "<unused0>"
    tokenizer.save_pretrained(folder)
    return model
