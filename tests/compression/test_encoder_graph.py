"""The encoding graph against transformers and PEFT."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from gpt_tasks.backbone.adapter import Adapter, fuse, read_adapter
from gpt_tasks.backbone.architectures import adapter_modules
from gpt_tasks.backbone.encoder_engine import EncoderEngine, length_batches
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.errors import UserError
from tests import tiny_models

ROWS = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [20, 21, 22], [30], [40, 41, 42, 43, 44]]


def reference_hidden(model, row, layer=-1):
    with torch.no_grad():
        return model(torch.tensor([row]), output_hidden_states=True).hidden_states[layer][0].numpy()


def paths(artifact, precision):
    return artifact.encoder_path(precision), artifact.graph_path(precision)


def random_adapter(reference, variant, tmp_path, layers=None):
    """PEFT's model with a random adapter on every linear layer, and its saved folder."""
    gpt2 = variant.startswith("gpt2")
    torch.manual_seed(1)
    targets = (
        ["c_attn", "c_proj", "c_fc"]
        if gpt2
        else ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    model = get_peft_model(
        reference,
        LoraConfig(r=4, lora_alpha=8, target_modules=targets, fan_in_fan_out=gpt2, layers_to_transform=layers),
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.1)
    model.save_pretrained(tmp_path)
    return model


class TestWithoutAdapter:
    @pytest.mark.parametrize("variant", tiny_models.VARIANTS)
    def test_padded_batch_matches_transformers(self, tiny_artifact, variant):
        artifact, reference = tiny_artifact(variant)
        hidden, mask = EncoderEngine(artifact, "fp32").encode(ROWS)
        assert mask.sum(axis=1).tolist() == [len(row) for row in ROWS]
        for index, row in enumerate(ROWS):
            np.testing.assert_allclose(hidden[index, : len(row)], reference_hidden(reference, row), atol=2e-4)

    def test_layers_are_the_residual_stream_there(self, tiny_artifact):
        artifact, reference = tiny_artifact("llama")
        layers, _ = EncoderEngine(artifact, "fp32").layers(ROWS[:1])
        assert feature_layers(artifact.config) == [1, 2]
        for count, hidden in zip(feature_layers(artifact.config), layers, strict=True):
            np.testing.assert_allclose(hidden[0], reference_hidden(reference, ROWS[0], count), atol=2e-4)

    @pytest.mark.parametrize("precision", ["int8", "int8_blocks", "int4"])
    def test_shares_the_decoders_weights(self, tiny_artifact, precision):
        artifact, _ = tiny_artifact("llama")
        graph, decoder = (path.with_name(f"{path.name}_data") for path in paths(artifact, precision))
        own = graph.stat().st_size if graph.exists() else 0
        # int8 has some matrices in blocks for the decoder that the encoder takes per token.
        assert own < (0.5 * decoder.stat().st_size if precision == "int8" else 1)
        exact, mask = EncoderEngine(artifact, "fp32").encode(ROWS)
        hidden, _ = EncoderEngine(artifact, precision).encode(ROWS)
        valid = mask == 1
        cosine = (hidden * exact).sum(-1) / np.linalg.norm(hidden, axis=-1) / np.linalg.norm(exact, axis=-1)
        assert cosine[valid].min() > (0.8 if precision == "int4" else 0.995)  # random weights suffer most

    def test_all_rows_come_back_in_batches_of_like_length(self, tiny_artifact):
        artifact, _ = tiny_artifact("llama")
        engine = EncoderEngine(artifact, "fp32")
        seen = {}
        for batch, hidden, mask in engine.encode_all(ROWS):
            for row, index in enumerate(batch):
                seen[index] = hidden[row, : mask[row].sum()]
        assert sorted(seen) == [0, 1, 2, 3]
        for index, row in enumerate(ROWS):
            alone, _ = engine.encode([row])
            np.testing.assert_allclose(seen[index], alone[0], atol=1e-5)

    def test_batches_hold_the_tokens_asked_for(self):
        assert length_batches([9, 1, 2, 1, 30], tokens=4) == [[1, 3], [2], [0], [4]]


class TestWithAdapter:
    @pytest.mark.parametrize("variant", ["llama", "llama_biases", "qwen2", "mistral_window", "gpt2"])
    def test_matches_peft(self, tiny_folder, tiny_artifact, tmp_path, variant):
        artifact, _ = tiny_artifact(variant)
        peft = random_adapter(tiny_models.make(variant), variant, tmp_path)
        adapter = read_adapter(tmp_path, artifact.hugging_face_config)
        engine = EncoderEngine(artifact, "fp32")
        hidden, _ = engine.encode(ROWS, adapter)
        plain, _ = engine.encode(ROWS)
        for index, row in enumerate(ROWS):
            np.testing.assert_allclose(hidden[index, : len(row)], reference_hidden(peft, row), atol=5e-4)
        assert np.abs(hidden - plain)[0].max() > 0.01  # the adapter did something, and is gone in the next call

    def test_adapter_on_some_layers(self, tiny_artifact, tmp_path):
        artifact, _ = tiny_artifact("llama")
        peft = random_adapter(tiny_models.make("llama"), "llama", tmp_path, layers=[1, 2])
        hidden, _ = EncoderEngine(artifact, "fp32").encode(
            ROWS[:1], read_adapter(tmp_path, artifact.hugging_face_config)
        )
        np.testing.assert_allclose(hidden[0], reference_hidden(peft, ROWS[0]), atol=5e-4)

    def test_scaled_channels_are_undone(self, tiny_artifact, tmp_path):
        """int8 divides channels by SmoothQuant's scales: an adapter must see them as they were."""
        artifact, _ = tiny_artifact("llama")
        random_adapter(tiny_models.make("llama"), "llama", tmp_path)
        adapter = read_adapter(tmp_path, artifact.hugging_face_config)
        exact, mask = EncoderEngine(artifact, "fp32").encode(ROWS, adapter)
        hidden, _ = EncoderEngine(artifact, "int8").encode(ROWS, adapter)
        cosine = (hidden * exact).sum(-1) / np.linalg.norm(hidden, axis=-1) / np.linalg.norm(exact, axis=-1)
        assert cosine[mask == 1].min() > 0.99

    def test_two_adapters_in_turn(self, tiny_artifact, tmp_path):
        artifact, _ = tiny_artifact("llama")
        rng = np.random.default_rng(0)
        modules = adapter_modules(artifact.hugging_face_config)
        shapes = {"q_proj": 64, "k_proj": 32, "v_proj": 32}

        def make():
            pairs = {
                name: (rng.normal(size=(2, 64)), rng.normal(size=(shapes[name.split(".")[-1]], 2)))
                for name in modules
                if name.endswith(tuple(shapes))
            }
            return Adapter(fuse(pairs, artifact.hugging_face_config, 0.1))

        first, second = make(), make()
        engine = EncoderEngine(artifact, "fp32")
        alone = [engine.encode(ROWS, adapter)[0] for adapter in (first, second)]
        again = [engine.encode(ROWS, adapter)[0] for adapter in (first, second)]
        np.testing.assert_array_equal(alone[0], again[0])
        np.testing.assert_array_equal(alone[1], again[1])
        assert np.abs(alone[0] - alone[1])[0].max() > 0.01

    def test_adapter_of_another_model_is_refused(self, tiny_artifact, tmp_path):
        artifact, _ = tiny_artifact("llama")
        random_adapter(tiny_models.make("gpt2"), "gpt2", tmp_path)
        with pytest.raises(UserError, match="made for another one"):
            read_adapter(tmp_path, artifact.hugging_face_config)

    def test_folder_without_adapter_is_refused(self, tiny_artifact, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(UserError, match="not a LoRA adapter"):
            read_adapter(tmp_path, tiny_artifact("llama")[0].hugging_face_config)
