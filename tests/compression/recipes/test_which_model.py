"""A model is known by all of its weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compression.derived_model import derived
from compression.distillation.distil import Distillation, distil, teaching_options
from compression.distillation.teacher import teacher_predictions
from compression.export import Request, export
from compression.recipe import read_recipe
from compression.recipe_run import RecipeRun
from compression.sizes import parameters
from compression.texts import read_texts
from gpt_tasks.backbone.weights import content_hash, fingerprint, open_model
from tests.compression.recipes.recipe_files import EXPORT, changed_copy, written


class TestWhichModel:
    def test_the_hash_is_of_all_weights(self, tiny, tmp_path):
        model, changed = open_model(str(tiny)), open_model(changed_copy(tiny, tmp_path))
        assert fingerprint(model.weights) == fingerprint(changed.weights)
        assert content_hash(model) != content_hash(changed)
        assert content_hash(model) == content_hash(open_model(str(tiny)))
        config = {**model.hugging_face_config, "rope_theta": 5.0}
        assert content_hash(model) != content_hash(replace(model, hugging_face_config=config))

    def test_a_teacher_that_changed_reads_the_text_again(self, tiny, tmp_path):
        windows = torch.arange(16).reshape(2, 8)
        teachers = [open_model(str(tiny)), open_model(changed_copy(tiny, tmp_path))]
        found = [teacher_predictions(teacher, windows, 4, 1.0).of([0, 1]) for teacher in teachers]
        assert not torch.equal(found[0].log_probabilities, found[1].log_probabilities)

    def test_a_student_that_changed_is_another_training(self, tiny, tmp_path, text, monkeypatch):
        seen = []

        def stopped(*_, identity, **__):
            seen.append(identity)
            raise KeyboardInterrupt

        monkeypatch.setattr("gpt_tasks.training.task_run.Trainer", stopped)
        teacher = open_model(str(tiny))
        for student in (str(tiny), changed_copy(tiny, tmp_path)):
            with pytest.raises(KeyboardInterrupt):
                options = teaching_options("full", 1, None, 64, 0)
                learned = Distillation(window=32, tokens=64)
                distil(teacher, open_model(student), read_texts(Path(text)), tmp_path / "out", learned, options)
        assert len(seen) == 2 and seen[0] != seen[1]

    def test_what_was_made_of_the_default_model_is_not_it(self, tiny, tmp_path):
        original = replace(open_model(str(tiny)), source={"kind": "default", "sha256": "0"})
        pruned = derived(original, "pruned", original.config, dict(original.weights))
        assert pruned.source == {"kind": "derived", "base": original.name}
        assert derived(pruned, "twice", pruned.config, dict(pruned.weights)).source == pruned.source
        export(pruned, tmp_path / "exported", Request(["fp32"]))
        recipe = read_recipe(written(tmp_path, EXPORT, {"evaluate": {"tokens": 300}}, model=str(tmp_path / "exported")))
        results = RecipeRun(recipe, tmp_path / "out").run("t")
        assert {row["parameters"] for row in results["variants"]} == {parameters(pruned.config)}
