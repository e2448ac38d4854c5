"""A correction instead of training, and as where it starts."""

from pathlib import Path

import numpy as np

from compression.distillation.distil import Distillation, distil, teaching_options
from compression.recipe import read_recipe
from compression.recipe_run import RecipeRun
from compression.texts import read_texts
from gpt_tasks.backbone.weights import open_model
from tests.compression.recipes.recipe_files import DEPTH, EXPORT, written


def test_a_correction_is_what_its_training_left(tmp_path, tiny, text):
    """Applied to the same pruned model it gives the same weights, without a text."""
    training = {"method": "lora", "rank": 2, "text": text, "tokens": 4096, "tokens_per_batch": 512, "window": 64}
    trained = read_recipe(written(tmp_path, DEPTH, {"recover": training}, EXPORT, model=str(tiny)))
    RecipeRun(trained, tmp_path / "trained").run("t")
    recovered = tmp_path / "trained" / "steps" / "2-recover"
    applied = read_recipe(
        written(tmp_path, DEPTH, {"recover": {"adapter": str(recovered / "adapter")}}, EXPORT, model=str(tiny))
    )
    RecipeRun(applied, tmp_path / "applied").run("t")
    wanted, found = (
        open_model(str(tmp_path / name / "steps" / "2-recover")).weights for name in ("trained", "applied")
    )
    pruned = open_model(str(tmp_path / "applied" / "steps" / "1-prune")).weights
    name = "blocks.1.feed_forward.down.weight"
    assert np.abs(found[name] - pruned[name]).max() > 0
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-3)


def test_a_recovery_that_goes_on_from_a_correction(tiny, tmp_path, text):
    recover = {"method": "lora", "rank": 2, "tokens": 4096, "window": 64, "tokens_per_batch": 512}
    first = read_recipe(written(tmp_path, DEPTH, {"recover": recover}, EXPORT, model=str(tiny)))
    RecipeRun(first, tmp_path / "first", text).run("t")
    start = tmp_path / "first" / "steps" / "2-recover" / "adapter"
    going_on = {"recover": {**recover, "start": str(start), "seed": 1}}
    RecipeRun(read_recipe(written(tmp_path, DEPTH, going_on, EXPORT, model=str(tiny))), tmp_path / "more", text).run(
        "t"
    )
    pruned = open_model(str(tmp_path / "more" / "steps" / "1-prune"))
    distillation = Distillation("lora", 2, 64, 4096, start=str(start))
    options = teaching_options("lora", 1.0, None, 512, 1)
    distil(open_model(str(tiny)), pruned, read_texts(Path(text)), tmp_path / "alone", distillation, options)
    weights = "adapter/adapter_model.safetensors"
    alone = (tmp_path / "alone" / weights).read_bytes()
    assert (tmp_path / "more" / "steps" / "2-recover" / weights).read_bytes() == alone
    assert (start / "adapter_model.safetensors").read_bytes() != alone
