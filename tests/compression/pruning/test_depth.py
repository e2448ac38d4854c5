"""Which blocks go, and what the model without them computes."""

import pytest
import torch
from torch.nn import functional

from compression.export import Request, export
from compression.pruning.depth import block_influence, greedy, keep_layers, least_influential
from compression.pruning.prune import Pruning, prune
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from tests.compression.pruning.reading import IDS, TEXT, logits


class TestDepth:
    @pytest.mark.parametrize("variant", ["llama", "gpt2", "mistral_window"])
    def test_a_model_without_a_block_is_what_transformers_computes_without_it(self, tiny_folder, variant):
        folder, reference = tiny_folder(variant)
        pruned = keep_layers(open_model(str(folder)), [0, 2])
        layers = reference.transformer.h if variant == "gpt2" else reference.model.layers
        removed = layers[1]
        del layers[1]
        try:
            with torch.no_grad():
                expected = reference(IDS, use_cache=False).logits
        finally:
            layers.insert(1, removed)
        assert torch.allclose(logits(pruned), expected, atol=1e-4)

    def test_influence_is_one_minus_the_cosine_of_input_and_output(self, tiny_folder, model):
        _, reference = tiny_folder("llama")
        with torch.no_grad():
            states = reference(IDS, output_hidden_states=True).hidden_states
        decoder = load_decoder(model.weights)
        found = block_influence(decoder, IDS)
        for layer in range(2):  # transformers gives the last one normed
            expected = 1 - functional.cosine_similarity(states[layer], states[layer + 1], dim=-1).mean().item()
            assert found[layer] == pytest.approx(expected, abs=1e-5)

    def test_the_least_influential_go(self):
        assert least_influential([0.9, 0.1, 0.2, 0.3], 2) == [0, 3]

    @pytest.mark.parametrize("by_influence, sequences", [(True, 9), (False, 2)])
    def test_a_search_reads_less_than_one_pass(self, model, monkeypatch, by_influence, sequences):
        seen = []
        monkeypatch.setattr("compression.pruning.prune.block_influence", lambda _, ids: seen.append(ids) or [3, 1, 2])
        monkeypatch.setattr("compression.pruning.prune.greedy", lambda _, ids, *__: seen.append(ids) or [0, 2])
        prune(model, Pruning("depth", 0.34, by_influence=by_influence, tokens=9 * 512), TEXT)
        assert len(seen[0]) == sequences

    def test_greedy_takes_the_block_that_the_loss_minds_least(self, model):
        ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))

        def loss(kept):
            found = logits(keep_layers(model, kept), ids)
            return functional.cross_entropy(found[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()

        pairs = [[1, 2], [0, 2], [0, 1]]
        assert greedy(load_decoder(model.weights), ids, 2) == min(pairs, key=loss)

    @pytest.mark.parametrize("layers", [[], [1, 0], [0, 0], [3], [-1, 0]])
    def test_layers_that_are_not_there_are_refused(self, model, layers):
        with pytest.raises(UserError, match="layers to keep"):
            keep_layers(model, layers)


def test_artifact_of_pruned_checkpoint_opens(model, tmp_path):
    artifact = export(keep_layers(model, [0, 2]), tmp_path / "two", Request(["fp32"]))
    assert Artifact(tmp_path / "two").config.layers == artifact.config.layers == 2
