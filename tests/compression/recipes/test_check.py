"""What the check compares."""

from dataclasses import replace

import pytest

from compression import recipe_steps
from compression.export import Request, export
from compression.precisions import PRECISIONS
from compression.recipe import read_recipe
from compression.recipe_run import RecipeRun
from gpt_tasks.backbone.weights import HeldWeights, open_model
from gpt_tasks.errors import UserError
from tests.compression.recipes.recipe_files import EXPORT, changed_copy, written


class TestCheck:
    def checked(self, tmp_path, steps, tiny, name):
        recipe = read_recipe(written(tmp_path, *steps, model=str(tiny)))
        return RecipeRun(recipe, tmp_path / name, resume=True).run("t")["checks"]

    def test_fp32_is_compared_with_the_checkpoint(self, tmp_path, tiny, monkeypatch):
        found = self.checked(tmp_path, [EXPORT, "check"], tiny, "out")
        assert found["fp32"]["perplexity"] != found["fp32"]["reference_perplexity"]  # two engines, not one twice
        assert found["fp32"]["ratio"] == pytest.approx(1, abs=1e-4)
        (tmp_path / "out" / "steps" / "2-check.json").unlink()
        model = open_model(str(tiny))
        zeros = {
            "embedding.weight": 0 * model.weights["embedding.weight"]
        }  # every token is as likely: beats a random one
        other = replace(model, weights=HeldWeights(model.config, {**model.weights, **zeros}))
        monkeypatch.setattr(recipe_steps, "open_model_or_artifact", lambda *_: other)
        with pytest.raises(UserError, match="fp32 failed its check"):
            self.checked(tmp_path, [EXPORT, "check"], tiny, "out")

    def test_a_limit_of_ones_own_stands_in_for_the_precisions(self, tmp_path, tiny, monkeypatch):
        monkeypatch.setitem(PRECISIONS, "int8_blocks", replace(PRECISIONS["int8_blocks"], ratio_limit=0.5))
        steps = {"export": {"precision": ["fp32", "int8_blocks"]}}
        with pytest.raises(UserError, match=r"int8_blocks failed its check: .* over its limit of 0\.5\."):
            self.checked(tmp_path, [steps, "check"], tiny, "out")
        found = self.checked(tmp_path, [steps, {"check": {"limit": 1.5}}], tiny, "out")
        assert {name: check["ratio_limit"] for name, check in found.items()} == {"fp32": 1.001, "int8_blocks": 1.5}
        assert all(check["passed"] for check in found.values())

    def test_what_quantize_leaves_is_compared_with_its_own_export(self, tmp_path, tiny):
        stale = tmp_path / "out" / "steps" / "9-export"
        export(open_model(changed_copy(tiny, tmp_path)), stale, Request(["fp32"]))
        found = self.checked(tmp_path, [EXPORT, {"quantize": {"precision": ["int8_blocks"]}}, "check"], tiny, "out")
        assert list(found) == ["int8_blocks"] and found["int8_blocks"]["mean_kl"] < 0.05
