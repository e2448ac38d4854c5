"""What is trained: everything, a low-rank correction, a head alone, or a prompt that no one ever typed.

Five ways behind one interface, `TunedDecoder`: how the tokens of a text become hidden states, and which
parameters are trained on the way. A task's head stands on top and is trained always.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.lora import add_lora

PROMPT_TOKENS = 16
"""The length of a soft prompt or a prefix."""
_PREFIX_DEVIATION = 0.02  # small at the beginning: a prefix of large values would drown the text


class TunedDecoder(nn.Module):
    """A decoder with nothing trained, and what the other methods have in common.

    Args:
        causal: False lets every token see all others
    """

    method = "head"

    def __init__(self, decoder: Decoder, causal: bool = True) -> None:
        super().__init__()
        self.decoder = decoder
        self.causal = causal
        decoder.requires_grad_(False)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, **watched: list[Tensor] | None) -> Tensor:
        """[batch, sequence] of ids, and of 0 (padding, at the end) and 1 -> the hidden states
        [batch, sequence, hidden]

        Args:
            watched: `layer_outputs`, `attentions`: see `Decoder.encode`; of the methods that put nothing before the
                text
        """
        # Causal and padded at the end: no real token sees padding, so that the plain mask will do.
        mask = None if self.causal else attention_mask
        return self.decoder.encode(input_ids, mask, causal=self.causal, **watched)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


class HeadOnly(TunedDecoder):
    """The backbone stays as it is; its features are what they are."""

    def encode(self, input_ids: Tensor, attention_mask: Tensor, **watched: list[Tensor] | None) -> Tensor:
        with torch.no_grad():
            return super().encode(input_ids, attention_mask, **watched)


class Full(TunedDecoder):
    """Every weight moves."""

    method = "full"

    def __init__(self, decoder: Decoder, causal: bool = True) -> None:
        super().__init__(decoder.float(), causal)
        decoder.requires_grad_(True)
        decoder.head.requires_grad_(decoder.head.weight is decoder.embedding.weight)  # the head of its own isn't used

    def encode(self, input_ids: Tensor, attention_mask: Tensor, **watched: list[Tensor] | None) -> Tensor:
        # The weights are fp32, so that small steps aren't rounded away; where the arithmetic is bf16, it is as in the
        # other methods, whose frozen weights are (casting here costs 40 % of a step).
        with torch.autocast("cpu", torch.bfloat16, enabled=training_dtype() == torch.bfloat16):
            return super().encode(input_ids, attention_mask, **watched)


class Lora(TunedDecoder):
    """A low-rank correction of linear layers (Hu et al. 2021).

    Args:
        modules: see `add_lora`
    """

    method = "lora"

    def __init__(
        self,
        decoder: Decoder,
        causal: bool = True,
        *,
        modules: Mapping[str, tuple[str, ...]],
        rank: int = 16,
        alpha: float = 32,
    ) -> None:
        super().__init__(decoder, causal)
        self.rank, self.alpha = rank, alpha
        self.layers = add_lora(decoder, modules, rank, alpha)


class SoftPrompt(TunedDecoder):
    """Prompt tuning: vectors that stand before the text like tokens, and are found by gradient descent
    (Lester et al. 2021). They begin as the embeddings of words, which trains better than noise."""

    method = "soft_prompt"

    def __init__(self, decoder: Decoder, causal: bool = True, *, tokens: int = PROMPT_TOKENS) -> None:
        super().__init__(decoder, causal)
        words = torch.randint(decoder.config.vocabulary_size, (tokens,))
        self.prompt = nn.Parameter(decoder.embedding.weight[words].detach().float().clone())  # [tokens, hidden]

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.prompt.shape[0]
        prompt = self.prompt.expand(input_ids.shape[0], -1, -1)  # [batch, tokens, hidden]
        mask = torch.cat([attention_mask.new_ones(input_ids.shape[0], tokens), attention_mask], dim=1)
        hidden = self.decoder.encode(
            input_ids, None if self.causal else mask, causal=self.causal, soft_prompt=prompt
        )  # [batch, tokens + sequence, hidden]
        return hidden[:, tokens:]


class Prefix(TunedDecoder):
    """Keys and values of every layer that no token ever had (prefix tuning, Li and Liang 2021; P-tuning v2,
    Liu et al. 2022). What a soft prompt says in the first layer alone, this says in each."""

    method = "prefix"

    def __init__(self, decoder: Decoder, causal: bool = True, *, tokens: int = PROMPT_TOKENS) -> None:
        if not causal:
            raise ValueError("a prefix stands before the text like a cache, which only causal attention has")
        super().__init__(decoder, causal)
        config = decoder.config
        heads = [config.of_layer(layer).key_value_heads for layer in range(config.layers)]
        shapes = [(count, tokens, config.head_size) for count in heads]
        self.keys = nn.ParameterList(torch.randn(shape) * _PREFIX_DEVIATION for shape in shapes)
        self.values = nn.ParameterList(torch.randn(shape) * _PREFIX_DEVIATION for shape in shapes)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.decoder.encode(input_ids, cache=_PrefixCache(self.keys, self.values))


class _PrefixCache:
    """`KeyValueCache`'s interface over the trained keys and values, which every row of a batch shares."""

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self.keys, self.values = keys, values  # of each layer [heads, tokens, d]
        self.length = keys[0].shape[1]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """key, value: [batch, heads, new, d] -> [batch, heads, tokens + new, d]"""
        rows = key.shape[0]
        return (
            torch.cat([self.keys[layer].expand(rows, -1, -1, -1).to(key.dtype), key], dim=2),
            torch.cat([self.values[layer].expand(rows, -1, -1, -1).to(value.dtype), value], dim=2),
        )

    def advance(self, tokens: int) -> None:
        """The text is read once: nothing to remember."""


METHODS: dict[str, Callable[..., TunedDecoder]] = {
    kind.method: kind for kind in (Lora, Full, HeadOnly, SoftPrompt, Prefix)
}


def make_tuned(
    method: str,
    decoder: Decoder,
    modules: Mapping[str, tuple[str, ...]],
    *,
    causal: bool = True,
    rank: int = 16,
) -> TunedDecoder:
    """
    Args:
        decoder: is changed; what isn't trained should be in bf16 already
        modules: see `add_lora`
        rank: of LoRA; its alpha is twice that
    """
    if method == "lora":
        return Lora(decoder, causal, modules=modules, rank=rank, alpha=2 * rank)
    return METHODS[method](decoder, causal)
