"""Our Decoder against transformers, on tiny random models of every variant."""

import pytest
import torch

from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.transformer.kv_cache import KeyValueCache
from tests import tiny_models

pytestmark = pytest.mark.parametrize("variant", tiny_models.VARIANTS)


@pytest.fixture
def pair(variant, tmp_path):
    reference = tiny_models.save(variant, tmp_path)
    return reference, load_decoder(open_model(str(tmp_path)).weights)


@pytest.fixture
def input_ids():
    return torch.randint(0, tiny_models.VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_logits_hidden_states_and_attention_are_those_of_transformers(pair, input_ids):
    reference, decoder = pair
    expected = reference(input_ids, output_attentions=True, output_hidden_states=True)
    actual = decoder(input_ids, return_attentions=True)
    torch.testing.assert_close(actual.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(actual.hidden, expected.hidden_states[-1], atol=1e-5, rtol=1e-5)
    assert len(actual.attentions) == 3
    for ours, theirs in zip(actual.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_reading_in_pieces_with_a_cache_equals_reading_at_once(pair, input_ids):
    _, decoder = pair
    cache = KeyValueCache(decoder.config, batch=2, capacity=32)
    pieces = [decoder(piece, cache=cache).logits for piece in input_ids.split([7, 1, 1, 11], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), decoder(input_ids).logits, atol=1e-5, rtol=1e-5)
    cache.truncate(5)
    again = decoder(input_ids[:, 5:], cache=cache).logits
    torch.testing.assert_close(again, decoder(input_ids).logits[:, 5:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_left_padded_row_equals_the_row_alone(pair, input_ids):
    _, decoder = pair
    mask = torch.ones_like(input_ids)
    mask[1, :6] = 0
    padded = decoder(input_ids, attention_mask=mask).logits
    torch.testing.assert_close(padded[0], decoder(input_ids[:1]).logits[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded[1, 6:], decoder(input_ids[1:, 6:]).logits[0], atol=1e-5, rtol=1e-5)
