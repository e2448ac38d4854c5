"""Which heads and neurons go, and what the model without them computes."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from compression.pruning import width
from compression.pruning.prune import Pruning, prune, write_pruned
from gpt_tasks.backbone.architectures import is_uniform
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import HeldWeights, open_model
from gpt_tasks.errors import UserError
from tests.compression.pruning.reading import IDS, TEXT, logits


class TestWidth:
    def test_importance_is_what_a_group_of_heads_adds(self, model):
        """By definition: the change of the block's output without the group."""
        decoder = load_decoder(model.weights)
        heads, neurons = width.importances(decoder, IDS)
        block, seen = decoder.blocks[0], []
        block.register_forward_hook(lambda _, __, output: seen.append(output[0]))
        attention = []
        block.attention.output.register_forward_hook(lambda _, __, output: attention.append(output))
        down = []
        block.feed_forward.down.register_forward_hook(lambda _, __, output: down.append(output))
        with torch.no_grad():
            decoder(IDS)
            block.attention.output.weight[:, :32] = 0  # query heads 0 and 1 of 16 each: the first group
            decoder(IDS)
            block.load_state_dict(load_decoder(model.weights).blocks[0].state_dict())
            block.feed_forward.down.weight[:, 7] = 0
            decoder(IDS)
        energy = seen[0].square().sum(-1)
        expected = ((attention[0] - attention[1]).square().sum(-1) / energy).mean()
        assert heads[0][0].item() == pytest.approx(expected.item(), rel=1e-3)
        expected = ((down[0] - down[2]).square().sum(-1) / energy).mean()
        assert neurons[0][7].item() == pytest.approx(expected.item(), rel=1e-3)

    def test_the_least_of_the_whole_model_go_and_every_layer_keeps_some(self):
        scores = [torch.tensor([5.0, 1, 4, 2]), torch.tensor([0.1, 0.3, 0.2, 0.4])]
        assert width.choose(scores, 0.25, 1, uniform=False) == [[0, 1, 2, 3], [1, 3]]
        assert width.choose(scores, 0.25, 1, uniform=True) == [[0, 2, 3], [1, 2, 3]]
        assert width.choose(scores, 0.9, 1, uniform=False)[1] == [3]
        with pytest.raises(UserError, match=r"nothing out.*larger one"):
            width.choose(scores, 0.01, 1, uniform=False)

    def test_where_a_layer_has_one_part_no_larger_sparsity_is_advised(self):
        with pytest.raises(UserError, match=r"at least 1 of 1 stay.*another method"):
            width.choose([torch.ones(1), torch.ones(1)], 0.5, 1, uniform=False)

    def test_what_really_went_is_recorded(self, model):
        _, facts = prune(model, Pruning("attention", 0.9), TEXT)  # 1 of 2 heads stays in each layer
        assert (facts["sparsity"], facts["removed"]) == (0.9, 0.5)
        _, facts = prune(model, Pruning("feed-forward", 0.3), TEXT)  # 3 of 9 times 32 neurons
        assert facts["removed"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("variant", ["llama", "llama_biases", "gpt2", "qwen2"])
    @pytest.mark.parametrize("method", ["attention", "feed-forward"])
    def test_removed_parts_add_nothing(self, tiny_folder, variant, method):
        """A model whose removed heads or neurons are set to zero computes the same."""
        model = open_model(str(tiny_folder(variant)[0]))
        if method == "attention":
            kept = [[0], [0, 1], [1]] if model.config.key_value_heads == 2 else [[0, 1], [0, 1, 2, 3], [3]]
            pruned = width.keep_heads(model, kept)
            size = model.config.query_size // model.config.key_value_heads
            name, groups = "attention.output", model.config.key_value_heads
        else:
            kept = [list(range(layer, 64)) for layer in range(3)]
            pruned = width.keep_neurons(model, kept)
            size, name, groups = 1, "feed_forward.down", model.config.feed_forward_size
        zeroed = {name: np.array(model.weights[name]) for name in model.weights}
        for layer in range(3):
            for group in set(range(groups)) - set(kept[layer]):
                zeroed[f"blocks.{layer}.{name}.weight"][:, group * size : (group + 1) * size] = 0
        expected = load_decoder(HeldWeights(model.config, zeroed))(IDS).logits
        assert torch.allclose(logits(pruned), expected, atol=1e-4)
        assert not is_uniform(pruned.hugging_face_config)

    def test_a_uniform_one_loads_in_transformers(self, model, tmp_path):
        pruned, facts = prune(model, Pruning("feed-forward", 0.34, uniform=True), TEXT)
        pruned, _ = prune(pruned, Pruning("attention", 0.5, uniform=True), TEXT)
        write_pruned(pruned, facts, tmp_path / "out")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert theirs.config.num_key_value_heads == 1 and theirs.config.intermediate_size == 64
        with torch.no_grad():
            assert torch.allclose(theirs(IDS).logits, logits(pruned), atol=1e-4)
