"""Models whose layers differ: on disk, in transformers, in PyTorch and in ONNX."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from compression.artifact_model import artifact_model
from compression.export import Request, export
from compression.pruning import width
from compression.pruning.prune import write_pruned
from gpt_tasks.backbone.adapter import read_adapter
from gpt_tasks.backbone.architectures import adapter_modules
from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.training.adapter_files import write_adapter
from gpt_tasks.training.methods import Lora
from gpt_tasks.transformer.kv_cache import KeyValueCache
from tests.compression.pruning.reading import IDS, logits


@pytest.fixture
def uneven(model, tmp_path):
    """A model whose layers have sizes of their own, exported."""
    pruned = width.keep_heads(model, [[0], [0, 1], [1]])
    pruned = width.keep_neurons(pruned, [list(range(32)), list(range(96)), list(range(64))])
    write_pruned(pruned, {"base": "x", "method": "y", "parameters": 1, "parameters_before": 2}, tmp_path / "checkpoint")
    return open_model(str(tmp_path / "checkpoint"))


class TestUneven:
    def test_it_comes_back_from_disk(self, uneven):
        assert [layer.feed_forward_size for layer in uneven.config.layer_sizes] == [32, 96, 64]
        assert [layer.key_value_heads for layer in uneven.config.layer_sizes] == [1, 2, 1]

    def test_transformers_refuses_it_and_the_card_says_why(self, uneven, tmp_path):
        with pytest.raises((ValueError, KeyError)):
            AutoConfig.from_pretrained(tmp_path / "checkpoint")
        assert "Only this project loads this folder" in (tmp_path / "checkpoint" / "README.md").read_text()

    def test_a_cache_gives_what_reading_at_once_gives(self, uneven):
        decoder = load_decoder(uneven.weights)
        cache = KeyValueCache(uneven.config)
        with torch.no_grad():
            pieces = [decoder(IDS[:, :10], cache=cache).logits, decoder(IDS[:, 10:], cache=cache).logits]
        assert torch.allclose(torch.cat(pieces, dim=1), logits(uneven), atol=1e-4)

    @pytest.mark.parametrize("precision", ["fp32", "int8_blocks", "int8", "int4"])
    def test_the_engine_agrees_with_pytorch(self, uneven, tmp_path, precision):
        artifact = export(uneven, tmp_path / "artifact", Request([precision]))
        engine = OrtEngine(artifact, precision)
        found = engine.read(IDS[0].tolist(), engine.new_cache(), all_logits=True)
        expected = logits(uneven)[0].numpy()
        if precision == "fp32":
            assert np.allclose(found, expected, atol=1e-3)
        else:
            cosine = (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)
            assert cosine.mean() > (0.85 if precision == "int4" else 0.99)  # random weights bear 4 bits badly
        assert not (tmp_path / "artifact" / "genai_config.json").exists()
        assert "Only this project" in (tmp_path / "artifact" / "README.md").read_text()

    def test_the_exported_fp32_is_the_model_again_and_it_writes(self, uneven, tmp_path):
        artifact = export(uneven, tmp_path / "artifact", Request(["fp32"]))
        again = artifact_model(artifact)
        assert torch.allclose(logits(again), logits(uneven), atol=1e-5)
        events = list(Backbone(artifact).write([5, 6, 7], SamplingOptions(temperature=0), 8))
        assert events[-1].new_tokens > 0

    def test_hidden_states_and_adapters(self, uneven, tmp_path):
        """A correction of the uneven model gives the same in PyTorch and in the encoding graph."""
        torch.manual_seed(0)
        modules = adapter_modules(uneven.hugging_face_config)
        tuned = Lora(load_decoder(uneven.weights), modules=modules, rank=2, alpha=4)
        for layer in tuned.layers.values():
            layer.up.data.normal_(0, 0.1)
        (tmp_path / "adapter").mkdir()
        write_adapter(tmp_path / "adapter", tuned, modules, "tiny", False)
        artifact = export(uneven, tmp_path / "artifact", Request(["fp32"]))
        adapter = read_adapter(tmp_path / "adapter", artifact.hugging_face_config)
        engine = EncoderEngine(artifact, "fp32")
        found = engine.encode([IDS[0].tolist()], adapter)[0]
        with torch.no_grad():
            expected = tuned.encode(IDS, torch.ones_like(IDS))[0].numpy()
        assert np.allclose(found, expected, atol=2e-2)  # the adapter is kept in fp16
