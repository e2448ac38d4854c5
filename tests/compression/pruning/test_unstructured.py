"""Zeros in the matrices of the blocks."""

import pytest
import torch

from compression.calibration import calibration_ids
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

    def test_every_layer_sees_what_the_pruned_ones_before_it_give_out(self, model):
        """Wanda by definition, with hooks on the pruned layers below."""
        pruned, _ = prune(model, Pruning("wanda", 0.5), TEXT)
        ids = calibration_ids(load_tokenizer(model), TEXT, model.config)
        decoder = load_decoder(pruned.weights)
        dense = load_decoder(model.weights)
        decoder.blocks[1] = dense.blocks[1]
        seen = []
        decoder.blocks[1].feed_forward.down.register_forward_pre_hook(lambda _, x: seen.append(x[0].flatten(0, 1)))
        with torch.no_grad():
            decoder(ids)
        weight = dense.blocks[1].feed_forward.down.weight.detach()
        scores = weight.abs() * torch.cat(seen).norm(dim=0)
        gone = torch.from_numpy(pruned.weights["blocks.1.feed_forward.down.weight"]) == 0
        assert (scores[gone].reshape(len(weight), -1).amax(1) <= scores[~gone].reshape(len(weight), -1).amin(1)).all()

    def test_magnitude_needs_no_text(self, model):
        pruned, _ = prune(model, Pruning("magnitude", 0.5), "")
        assert zeros(pruned) == pytest.approx(0.5, abs=0.01)

    def test_zeros_are_counted(self, model):
        assert zeros(model) == 0
