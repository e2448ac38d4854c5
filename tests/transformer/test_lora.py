import pytest
import torch

from gpt_tasks.backbone.architectures import adapter_modules, read_config
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.lora import LoraLinear, add_lora
from tests import tiny_models


class TestLoraLinear:
    def test_hand_computed(self):
        base = torch.nn.Linear(2, 1)
        layer = LoraLinear(base, torch.nn.Parameter(torch.tensor([[1.0, 2.0]])), alpha=3)
        with torch.no_grad():
            base.weight.copy_(torch.tensor([[5.0, 7.0]]))
            base.bias.fill_(1)
            layer.up.copy_(torch.tensor([[4.0]]))
        # 5·1 + 7·10 + 1 = 76, and (3 / 1) · 4 · (1·1 + 2·10) = 252
        assert layer(torch.tensor([[1.0, 10.0]])).item() == pytest.approx(76 + 252)

    @pytest.mark.parametrize("variant", ["llama", "gpt2"])
    def test_begins_as_the_model_was_and_trains_nothing_else(self, variant):
        settings = tiny_models.VARIANTS[variant].to_dict()
        decoder = Decoder(read_config(settings)).eval()
        ids = torch.arange(6)[None]
        before = decoder.encode(ids)
        layers = add_lora(decoder, adapter_modules(settings), rank=2, alpha=4)
        torch.testing.assert_close(decoder.encode(ids), before)
        trained = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
        assert trained and all(name.endswith((".down", ".up")) for name in trained)
        decoder.encode(ids).sum().backward()
        assert all(layer.up.grad is not None for layer in layers.values())

    def test_gpt2s_query_key_and_value_share_one_matrix(self):
        settings = tiny_models.VARIANTS["gpt2"].to_dict()
        decoder = Decoder(read_config(settings))
        layers = add_lora(decoder, adapter_modules(settings), rank=2, alpha=4)
        assert layers["blocks.0.attention.query"].down is layers["blocks.0.attention.value"].down
        assert layers["blocks.0.attention.query"].down is not layers["blocks.1.attention.query"].down
