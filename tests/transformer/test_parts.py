"""The parts of the Transformer against torch.nn and values worked out by hand."""

import math

import pytest
import torch
from torch import nn

from gpt_tasks.transformer.attention import causal_attention, scaled_dot_product_attention
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.feed_forward import gelu, gelu_tanh, silu
from gpt_tasks.transformer.kv_cache import KeyValueCache
from gpt_tasks.transformer.masks import causal_mask
from gpt_tasks.transformer.norms import LayerNorm, RMSNorm
from gpt_tasks.transformer.positions import RotaryPositions, sinusoidal_positions

SMALL = DecoderConfig(
    vocabulary_size=11,
    context_length=16,
    hidden_size=8,
    layers=2,
    query_heads=2,
    key_value_heads=1,
    head_size=4,
    feed_forward_size=12,
)


@pytest.mark.parametrize("ours, theirs", [(LayerNorm, nn.LayerNorm), (RMSNorm, nn.RMSNorm)])
def test_norms(ours, theirs):
    x = torch.randn(3, 5, 8) * 4 + 1
    mine, reference = ours(8, 1e-5), theirs(8, eps=1e-5)
    nn.init.normal_(mine.weight)
    reference.load_state_dict(mine.state_dict())
    torch.testing.assert_close(mine(x), reference(x))


@pytest.mark.parametrize("ours, theirs", [(gelu, nn.GELU()), (gelu_tanh, nn.GELU("tanh")), (silu, nn.SiLU())])
def test_activations(ours, theirs):
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(ours(x), theirs(x))


def test_attention_is_torchs():
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind(0)
    mask = causal_mask(6, 6)
    gathered, weights = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(gathered, nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 6))
    assert (weights.masked_select(~mask) == 0).all()


def test_attention_by_hand():
    # One query that fits the second key by ln 3 more than the first: weights 1/4 and 3/4.
    query = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    key = torch.tensor([[0.0, 0, 0, 0], [2 * math.log(3), 0, 0, 0]])
    value = torch.tensor([[0.0, 4.0], [8.0, 0.0]])
    gathered, weights = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(gathered, torch.tensor([[6.0, 1.0]]))


def test_a_query_that_sees_nothing_is_finite():
    query, key, value = torch.randn(3, 1, 2, 4).unbind(0)
    gathered, _ = scaled_dot_product_attention(query, key, value, torch.zeros(2, 2, dtype=torch.bool))
    assert gathered.isfinite().all()


@pytest.mark.parametrize(
    ("queries", "keys", "window"), [(1, 700, None), (600, 600, None), (300, 700, None), (600, 600, 40)]
)
def test_causal_attention_in_blocks_is_pytorchs(queries, keys, window):
    query, key, value = torch.randn(2, 3, queries, 8), torch.randn(2, 3, keys, 8), torch.randn(2, 3, keys, 8)
    padded = torch.ones(2, 1, 1, keys, dtype=torch.bool)
    padded[1, ..., 3:6] = False
    for mask in (causal_mask(queries, keys, window), causal_mask(queries, keys, window) & padded):
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)
        torch.testing.assert_close(causal_attention(query, key, value, mask), expected)


def test_causal_mask_by_hand():
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(2, 4, window=2).tolist() == [[False, True, True, False], [False, False, True, True]]


def test_sinusoidal_positions_by_hand():
    table = sinusoidal_positions(3, 4)
    assert table.shape == (3, 4)
    expected = [math.sin(2), math.cos(2), math.sin(2 / 100), math.cos(2 / 100)]
    torch.testing.assert_close(table[2], torch.tensor(expected))
    with pytest.raises(ValueError, match="even"):
        sinusoidal_positions(3, 5)


def test_rotary_products_depend_on_the_distance_only():
    rotary = RotaryPositions(64, 8, 10_000.0)
    query, key = torch.randn(2, 1, 1, 1, 8).unbind(0)
    products = [(rotary(query, torch.tensor([[m]])) * rotary(key, torch.tensor([[m - 5]]))).sum() for m in (5, 17, 60)]
    torch.testing.assert_close(products[1], products[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(products[2], products[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rotary(query, torch.tensor([[0]])), query)


def test_a_decoder_with_sinusoidal_positions_learns_no_position():
    config = DecoderConfig(**{**vars(SMALL), "positions": "sinusoidal", "norm": "layer", "feed_forward": "gelu"})
    decoder = Decoder(config)
    torch.testing.assert_close(decoder.position_embedding.weight, sinusoidal_positions(16, 8))
    assert not decoder.position_embedding.weight.requires_grad
    assert decoder(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 11)


def test_a_decoder_sees_the_past_only():
    decoder = Decoder(SMALL).eval()
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    changed = torch.tensor([[1, 2, 3, 9, 9]])
    with torch.no_grad():
        before, after = decoder(ids).logits, decoder(changed).logits
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_a_tied_head_is_the_embedding():
    decoder = Decoder(SMALL)
    assert decoder.head.weight is decoder.embedding.weight
    out = decoder(torch.tensor([[1, 2]]))
    torch.testing.assert_close(out.logits, out.hidden @ decoder.embedding.weight.T)
    assert "attentions" in vars(out) and out.attentions is None


def test_limits_are_errors():
    decoder = Decoder(SMALL)
    with pytest.raises(ValueError, match="context of 16"):
        decoder(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="holds 4 tokens"):
        decoder(torch.zeros(1, 5, dtype=torch.long), cache=KeyValueCache(SMALL, capacity=4))
    cache = KeyValueCache(SMALL)
    with pytest.raises(ValueError, match="can't cut"):
        cache.truncate(1)


@pytest.mark.parametrize(
    "change, message",
    [({"key_value_heads": 3}, "can't be shared out"), ({"head_size": 3}, "odd"), ({"layers": 0}, "at least 1")],
)
def test_impossible_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**{**vars(SMALL), **change})
