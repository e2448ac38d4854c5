"""Zeros in the matrices of the blocks."""

import pytest
import torch

from compression.calibration import calibration_ids, cross_moments, second_moments
from compression.pruning.error_feedback import with_feedback
from compression.pruning.masks import wanda_mask
from compression.pruning.prune import Pruning, prune
from compression.pruning.unstructured import zeros
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.training.task_run import load_tokenizer
from tests.compression.pruning.reading import TEXT


class TestUnstructured:
    @pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
    @pytest.mark.parametrize("pattern", [None, (2, 4)])
    def test_the_blocks_are_sparse_and_all_else_is_as_it_was(self, model, method, pattern):
        pruned, facts = prune(model, Pruning(method, 0.5, pattern), TEXT)
        assert facts["zeros"] == pytest.approx(0.5, abs=0.01)
        for name in model.weights:
            if "blocks" not in name or "norm" in name:
                assert (pruned.weights[name] == model.weights[name]).all()

    @pytest.mark.parametrize("matrix", ["attention.query", "attention.output", "feed_forward.down"])
    def test_a_matrix_makes_up_for_what_the_pruned_ones_before_it_have_changed(self, model, matrix):
        """Wanda by definition, of a matrix of the second block, with hooks on what both models read."""
        pruned, _ = prune(model, Pruning("wanda", 0.5, refit=False), TEXT)
        ids = calibration_ids(load_tokenizer(model), TEXT, model.config, sequence=1024)
        stream = {"attention.output": "attention_norm", "feed_forward.down": "feed_forward_norm"}.get(matrix)

        def read(weights):
            block, seen = (decoder := load_decoder(weights)).blocks[1], {}
            for name in filter(None, (matrix, stream)):
                block.get_submodule(name).register_forward_pre_hook(
                    lambda _, x, name=name: seen.update({name: x[0].flatten(0, 1)})
                )
            with torch.no_grad():
                decoder(ids)
            return seen

        name = f"blocks.1.{matrix}.weight"
        weight, sparse = (torch.from_numpy(which.weights[name]) for which in (model, pruned))
        wanted, found = read(model.weights), read(pruned.weights)
        lacking = (wanted[matrix] - found[matrix]) @ weight.T
        if stream is not None:
            lacking = lacking + wanted[stream] - found[stream]
        inputs = found[matrix]
        corrected = with_feedback(weight, second_moments(inputs), cross_moments(lacking, inputs))
        keep = wanda_mask(corrected, inputs.norm(dim=0), 0.5)
        assert ((sparse != 0) == keep).float().mean() > 0.995  # of nearly equal scores either may go
        both = (sparse != 0) & keep
        torch.testing.assert_close(sparse[both], corrected[both], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(corrected, weight, atol=1e-3)

    @pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
    def test_a_refit_moves_the_kept_weights_alone(self, model, method):
        (refitted, _), (plain, _) = (prune(model, Pruning(method, refit=refit), TEXT) for refit in (True, False))
        first = "blocks.0.attention.query.weight"  # those after it read what the others give out
        assert ((refitted.weights[first] == 0) == (plain.weights[first] == 0)).all()
        assert (refitted.weights[first] != plain.weights[first]).any()
        if method == "wanda":
            kept = plain.weights[first] != 0
            assert (plain.weights[first][kept] == model.weights[first][kept]).all()

    def test_magnitude_needs_no_text(self, model):
        pruned, _ = prune(model, Pruning("magnitude", 0.5), "")
        assert zeros(pruned) == pytest.approx(0.5, abs=0.01)

    def test_zeros_are_counted(self, model):
        assert zeros(model) == 0
