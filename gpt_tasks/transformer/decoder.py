"""The decoder-only language model (GPT): a stack of blocks between an embedding and a head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt_tasks.transformer.block import DecoderBlock
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.kv_cache import KeyValueCache
from gpt_tasks.transformer.masks import causal_mask, padding_mask
from gpt_tasks.transformer.norms import make_norm
from gpt_tasks.transformer.positions import RotaryPositions, make_position_embedding


@dataclass(frozen=True)
class DecoderOutput:
    logits: Tensor
    """[batch, sequence, vocabulary]; softmax over the last axis gives p(next token | tokens so far)"""
    hidden: Tensor
    """[batch, sequence, hidden], after the last norm"""
    attentions: tuple[Tensor, ...] | None
    """one [batch, query_heads, sequence, keys] a layer, where asked for"""


class Decoder(nn.Module):
    """p(w_1 ... w_n) = Π p(w_t | w_1 ... w_{t-1}), with p(w) = softmax(h · e(w)).

    One definition serves the Llama and the GPT-2 family; `DecoderConfig` says which parts it has.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.position_embedding = make_position_embedding(config)
        self.rotary = (
            RotaryPositions(config.context_length, config.head_size, config.rotary_base)
            if config.positions == "rotary"
            else None
        )
        self.blocks = nn.ModuleList(DecoderBlock(config.of_layer(layer)) for layer in range(config.layers))
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.hidden_size, config.vocabulary_size, bias=False)
        if config.tied_embedding:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
        return_attentions: bool = False,
    ) -> DecoderOutput:
        """
        Args:
            input_ids: [batch, sequence], the new tokens
            attention_mask: [batch, cached + sequence] of 0 (padding) and 1; None: no padding
            position_ids: [batch, sequence]; None: counted from the mask, so that left padding is right
            cache: holds the tokens read before; extended by these
            return_attentions: keep every layer's attention weights

        Raises:
            ValueError: more tokens than the context or the cache holds.
        """
        attentions: list[Tensor] | None = [] if return_attentions else None
        hidden = self.encode(input_ids, attention_mask, position_ids, cache, attentions=attentions)
        logits = self.head(hidden)  # [batch, sequence, vocabulary]
        return DecoderOutput(logits, hidden, None if attentions is None else tuple(attentions))

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
        *,
        causal: bool = True,
        soft_prompt: Tensor | None = None,
        attentions: list[Tensor] | None = None,
        layer_outputs: list[Tensor] | None = None,
    ) -> Tensor:
        """The hidden states after the last norm, without the head: [batch, sequence, hidden].

        Args:
            causal: False lets every token see all others, as in an encoder (not with a cache)
            soft_prompt: [batch, prompt, hidden], read as if it were the embeddings of tokens that stand before
                the text. The result has them too, and the mask and the positions count them.
            attentions: gets every layer's attention weights
            layer_outputs: gets every layer's output, not normed, each [batch, sequence, hidden]

        Raises:
            ValueError: more tokens than the context or the cache holds.
        """
        x = self.embedding(input_ids)  # [batch, sequence, hidden]
        if soft_prompt is not None:
            x = torch.cat([soft_prompt.to(x.dtype), x], dim=1)  # [batch, prompt + sequence, hidden]
        past = cache.length if cache is not None else 0
        sequence, keys = x.shape[1], past + x.shape[1]
        if keys > self.config.context_length:
            raise ValueError(f"{keys} tokens don't fit the context of {self.config.context_length}")
        if causal:
            mask = causal_mask(sequence, keys, self.config.attention_window, x.device)  # [sequence, keys]
        else:
            mask = torch.ones(sequence, keys, dtype=torch.bool, device=x.device)
        if attention_mask is not None:
            mask = mask & padding_mask(attention_mask)  # [batch, 1, sequence, keys]
        if position_ids is None:
            position_ids = self._count_positions(x, attention_mask, past)

        if self.position_embedding is not None:
            x = x + self.position_embedding(position_ids)
        blockwise = causal and attentions is None
        for layer, block in enumerate(self.blocks):
            x, weights = block(x, position_ids, mask, self.rotary, cache, layer, blockwise)
            if attentions is not None:
                attentions.append(weights)
            if layer_outputs is not None:
                layer_outputs.append(x)
        if cache is not None:
            cache.advance(sequence)
        return self.final_norm(x)

    @staticmethod
    def _count_positions(x: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
        """The first real token of each row is position 0: [batch, sequence]"""
        batch, sequence, _ = x.shape
        if attention_mask is None:
            return torch.arange(past, past + sequence, device=x.device).expand(batch, sequence)
        return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, past:]
