"""A stopped run goes on, and what has changed is made anew."""

import shutil
from pathlib import Path

import pytest

from compression import recipe_steps
from compression.recipe import evaluated_on, make_recipe, read_recipe
from compression.recipe_inputs import input_hashes
from compression.recipe_options import Check
from compression.recipe_run import RecipeRun
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from gpt_tasks.training.trainer import Trainer
from tests.compression.recipes.recipe_files import DEPTH, EXPORT, changed_copy, written


class TestGoingOn:
    @pytest.fixture
    def recipe(self, tmp_path, tiny):
        teaching = {"tokens": 2048, "window": 64, "tokens_per_batch": 256, "learning_rate": 1e-3}
        return read_recipe(written(tmp_path, DEPTH, {"recover": teaching}, EXPORT, model=str(tiny)))

    def test_a_stopped_run_gives_the_same_bytes(self, tmp_path, recipe, text, monkeypatch):
        RecipeRun(recipe, tmp_path / "whole", text).run("test")
        take, steps = Trainer._take_step, []

        def interrupted(self, batches):
            steps.append(1)
            if len(steps) == 6:
                raise KeyboardInterrupt
            return take(self, batches)

        monkeypatch.setattr(Trainer, "_take_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            RecipeRun(recipe, tmp_path / "broken", text).run("test")
        began = []
        run = RecipeRun(recipe, tmp_path / "broken", text, resume=True)
        run.run("test", lambda number, name, skipped: began.append((name, skipped)))
        assert began == [("prune", True), ("recover", False), ("export", False)]
        data = [(tmp_path / name / "model" / "onnx" / "model.onnx_data").read_bytes() for name in ("whole", "broken")]
        assert data[0] == data[1]

    def test_a_training_that_was_begun_with_other_options_is_begun_anew(self, tmp_path, recipe, text, monkeypatch):
        def stopped(self):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_evaluate", stopped)
            with pytest.raises(KeyboardInterrupt):
                RecipeRun(recipe, tmp_path / "out", text).run("test")
        (tmp_path / "out" / "steps" / "2-recover.training" / "checkpoint.pt").write_bytes(b"of another run")
        steps = [(n, s.model_copy(update={"seed": 1}) if n == "recover" else s) for n, s in recipe.steps]
        changed = recipe.model_copy(update={"steps": steps})
        results = RecipeRun(changed, tmp_path / "out", text, resume=True).run("test")
        assert results["steps"][1]["options"]["seed"] == 1

    def test_what_has_not_changed_is_skipped(self, tmp_path, recipe, text):
        RecipeRun(recipe, tmp_path / "out", text).run("test")
        with pytest.raises(UserError, match="--resume"):
            RecipeRun(recipe, tmp_path / "out", text)

        def skipped_of(recipe, text):
            began = []
            RecipeRun(recipe, tmp_path / "out", text, resume=True).run("t", lambda n, name, done: began.append(done))
            return began

        assert skipped_of(recipe, text) == [True, True, True]
        other = Path(text).with_name("other.txt")
        other.write_text("hell " * 12000)
        assert skipped_of(recipe, str(other)) == [True, False, False]
        shutil.rmtree(tmp_path / "out" / "model")
        assert skipped_of(recipe, str(other)) == [True, True, False]

    def test_what_another_version_of_the_recipe_exported_is_not_taken_for_ones_own(self, tmp_path, tiny, monkeypatch):
        def run(*steps):
            began = []
            recipe = read_recipe(written(tmp_path, *steps, model=str(tiny)))
            RecipeRun(recipe, tmp_path / "out", resume=True).run("t", lambda n, name, done: began.append(done))
            return began

        assert run(EXPORT) == [False] and run(EXPORT) == [True]

        def failed(*_):
            raise UserError("worse than its limit")

        with monkeypatch.context() as patched, pytest.raises(UserError, match="worse than"):
            patched.setitem(recipe_steps.WORK, Check, failed)
            run(DEPTH, EXPORT, "check")
        assert Artifact(tmp_path / "out" / "model").config.layers == 2
        assert run(EXPORT) == [False]
        assert Artifact(tmp_path / "out" / "model").config.layers == 4

    def test_another_text_to_evaluate_on(self, tmp_path, recipe, text):
        validation = tmp_path / "validation.txt"
        validation.write_text("what else is there " * 3000)
        evaluating = make_recipe(
            {
                "name": "x",
                "model": recipe.model,
                "steps": [{"export": {"precision": ["fp32"]}}, {"evaluate": {"tokens": 300}}],
            },
            "here",
        )
        figures = [
            RecipeRun(asked, tmp_path / name).run("t")
            for name, asked in (("own", evaluating), ("other", evaluated_on(evaluating, str(validation))))
        ]
        assert figures[0]["variants"][-1]["perplexity"] != figures[1]["variants"][-1]["perplexity"]
        context = open_model(recipe.model).config.context_length
        assert [found["text"]["window"] for found in figures] == [context, context]  # of 1,024 that were asked for
        with pytest.raises(UserError, match="There is no text /nowhere"):
            RecipeRun(evaluated_on(evaluating, "/nowhere"), tmp_path / "third").run("t")
        without = evaluating.model_copy(update={"steps": evaluating.steps[:1]})
        with pytest.raises(UserError, match="never evaluates"):
            evaluated_on(without, str(validation))

    def test_a_model_that_changed_is_begun_anew(self, tmp_path, recipe, text, tiny):
        RecipeRun(recipe, tmp_path / "out", text).run("test")
        began = []
        changed = recipe.model_copy(update={"model": changed_copy(tiny, tmp_path)})
        RecipeRun(changed, tmp_path / "out", text, resume=True).run("t", lambda n, name, done: began.append(done))
        assert began == [False, False, False]
        assert open_model(str(tmp_path / "out" / "steps" / "1-prune")).config.layers == 2

    def test_a_model_that_changed_is_measured_beside_itself(self, tmp_path, tiny):
        def perplexities(model):
            evaluate = {"evaluate": {"tokens": 300}}
            recipe = read_recipe(written(tmp_path, EXPORT, evaluate, model=model))
            rows = RecipeRun(recipe, tmp_path / "out", resume=True).run("t")["variants"]
            return [row["perplexity"] for row in rows if row["precision"] == "fp32"]

        first = perplexities(str(tiny))
        second = perplexities(changed_copy(tiny, tmp_path))
        assert first[0] == first[1] != second[0] == second[1]

    @pytest.mark.parametrize("where", ["calibration", "adapter", "task", "data"])
    def test_a_file_with_another_content_is_another_input(self, tmp_path, text, where):
        task, adapter = tmp_path / "sentiment", tmp_path / "adapter"
        shutil.copytree("assets/tasks/sentiment", task)
        shutil.copytree("assets/corrections/half-depth", adapter)
        data = tmp_path / "data.jsonl"
        data.write_text('{"text": "good", "label": "positive"}\n')
        steps = [
            DEPTH,
            {"recover": {"adapter": str(adapter)}},
            {"export": {"calibration": text}},
            {"evaluate": {"tasks": [{"task": str(task), "data": str(data)}]}},
        ]
        recipe = read_recipe(written(tmp_path, *steps))
        before = input_hashes(recipe, None)
        changed = {"calibration": text, "adapter": adapter / "adapter_config.json", "task": task / "head.json"}
        with Path(changed.get(where, data)).open("a") as file:
            file.write('{"text": "bad", "label": "negative"}\n')
        different = [old != new for old, new in zip(before, input_hashes(recipe, None), strict=True)]
        step = {"adapter": 2, "calibration": 3}.get(where, 4)
        assert different == [number == step for number in range(1, 5)]

    def test_another_calibration_is_another_export(self, tmp_path, tiny, text):
        export = {"export": {"precision": ["fp32"], "calibration": text}}
        recipe = read_recipe(written(tmp_path, export, model=str(tiny)))
        began = []
        for content in ("the " * 9000, "hell " * 9000):
            Path(text).write_text(content)
            RecipeRun(recipe, tmp_path / "out", resume=True).run("t", lambda n, name, done: began.append(done))
        assert began == [False, False]
