"""One layer of a decoder: attention, then feed-forward, each added to what was there."""

from torch import Tensor, nn

from gpt_tasks.transformer.attention import MultiHeadAttention
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.feed_forward import make_feed_forward
from gpt_tasks.transformer.kv_cache import KeyValueCache
from gpt_tasks.transformer.norms import make_norm
from gpt_tasks.transformer.positions import RotaryPositions


class DecoderBlock(nn.Module):
    """x + Sublayer(Norm(x)), twice.

    The norm stands before the sublayer ("pre-norm", as in GPT-2 and Llama), so that the residual
    stream runs through the whole model undisturbed; the original Transformer normed the sum.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = MultiHeadAttention(config)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = make_feed_forward(config)

    def forward(
        self,
        x: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        rotary: RotaryPositions | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        blockwise: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x: [batch, sequence, hidden] -> the same, and the attention weights
        [batch, query_heads, sequence, keys], if not `blockwise`: see `MultiHeadAttention`"""
        gathered, weights = self.attention(self.attention_norm(x), position_ids, mask, rotary, cache, layer, blockwise)
        x = x + gathered
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x, weights
