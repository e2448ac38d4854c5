"""What no method can take out."""

import pytest

from compression.pruning.prune import Pruning, prune
from gpt_tasks.errors import UserError
from tests.compression.pruning.reading import TEXT


class TestRefused:
    @pytest.mark.parametrize("sparsity", [0, 1, 1.2, -0.1])
    def test_sparsity(self, sparsity):
        with pytest.raises(ValueError, match="sparsity"):
            Pruning("wanda", sparsity)

    @pytest.mark.parametrize("sparsity", [0.01, 0.99])
    def test_layers_that_a_sparsity_leaves(self, model, sparsity):
        with pytest.raises(UserError, match="at least one"):
            prune(model, Pruning("depth", sparsity), TEXT)

    @pytest.mark.parametrize("pattern", [(0, 4), (4, 4), (2, 5)])
    def test_pattern(self, model, pattern):
        with pytest.raises(UserError, match="pattern"):
            prune(model, Pruning("wanda", 0.5, pattern), TEXT)

    @pytest.mark.parametrize("method", ["wanda", "depth", "feed-forward"])
    def test_an_empty_text(self, model, method):
        with pytest.raises(UserError, match="calibration text"):
            prune(model, Pruning(method), "")

    def test_more_tokens_than_there_is_memory_for(self, model, monkeypatch):
        monkeypatch.setattr("gpt_tasks.memory.available_bytes", lambda: 10**8)
        with pytest.raises(UserError, match="by 1024 tokens"):
            prune(model, Pruning("wanda"), TEXT * 3)
        prune(model, Pruning("magnitude"), TEXT)

    def test_an_option_of_another_method(self):
        with pytest.raises(ValueError, match="pattern"):
            Pruning("depth", 0.5, (2, 4))
        with pytest.raises(ValueError, match="layers"):
            Pruning("wanda", 0.5, layers=(1, 2))
        with pytest.raises(ValueError, match="refit is for wanda, sparsegpt"):
            Pruning("magnitude", 0.5, refit=False)
