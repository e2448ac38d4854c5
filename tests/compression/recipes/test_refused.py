"""What is wrong with a recipe is said before its first step."""

from pathlib import Path

import pytest
import yaml

from compression.recipe import read_recipe
from compression.recipe_run import RecipeRun
from gpt_tasks.errors import UserError
from tests.compression.recipes.recipe_files import DEPTH, EXPORT, dry_run, written


class TestRefused:
    @pytest.mark.parametrize(
        "steps, said",
        [
            ([{"prune": {"method": "depth", "sparsty": 0.5}}, "export"], "unknown option 'sparsty'"),
            ([{"prune": {"method": "deep"}}, "export"], "method"),
            ([{"prune": {"method": "depth", "sparsity": 1.2}}, "export"], "sparsity"),
            ([{"prune": {"method": "wanda", "pattern": "2-4"}}, "export"], "pattern"),
            (["prun", "export"], "no step 'prun'"),
            ([{"export": {"precision": ["int9"]}}], "int9"),
            ([{"export": {"precision": []}}], "precision"),
            (["check", "export"], "Put export before it"),
            (["export", DEPTH], "Put it before export"),
            (["recover", "export"], "nothing was pruned"),
            ([{"export": {"precision": ["int8"]}}, "quantize"], "Export fp32 first"),
            ([{"prune": {"method": "vocabulary"}}, "recover", "export"], "no teacher fits"),
            ([{"prune": {"method": "wanda"}}, {"recover": {"method": "lora"}}, "export"], "would fill the zeros"),
            ([{"prune": {"method": "wanda"}}, {"recover": {"adapter": "x"}}, "export"], "would fill the zeros"),
            ([DEPTH], "never exports"),
            ([], "steps"),
            (["export", "bench", ["x"]], "step 3"),
            ([{"export": 3}], "must be names with values"),
            ([{"prune": {"method": "depth", "pattern": "2:4"}}, "export"], "a pattern is for magnitude"),
            ([{"prune": {"method": "wanda", "pattern": "4:4"}}, "export"], "and leave one"),
            ([{"prune": {"method": "wanda", "layers": [0]}}, "export"], "a choice of layers is for depth"),
            (
                [{"prune": {"method": "depth", "uniform": True}}, "export"],
                "uniform is for attention, feed-forward, not for depth: leave it out",
            ),
            ([{"prune": {"method": "magnitude", "text": "x"}}, "export"], "a text to decide by is for wanda"),
            ([{"export": {"precision": ["int8"], "size_mb": 80}}], "are for int4 and int4_fast"),
            (
                ["export", {"evaluate": {"tasks": [{"task": "a/mine", "data": "x"}, {"task": "mine", "data": "x"}]}}],
                "two tasks are named mine",
            ),
            ([{"prune": {"method": "depth", "layers": []}}, "export"], "layers: list should have at least 1"),
            ([{"prune": {"method": "depth", "layers": [2, 1]}}, "export"], "in order"),
            ([{"prune": {"method": "depth", False: 1}}, "export"], "False is not the name of an option"),
            ([{"distill": {"student": "every-0th"}}, "export"], "not 'every-0th'"),
            ([{"distill": {"student": "half"}}, "export"], "not 'half'"),
            ([{"distill": {"student": "fresh"}}, "export"], "needs a number of layers"),
            ([{"distill": {"hidden_size": 64}}, "export"], "of a fresh student, not of every-2nd"),
            ([DEPTH, {"recover": {"start": "half-depth"}}, "export"], "LoRA alone goes on from a correction, not full"),
            ([{"distill": {"predictions": 0, "own_text": 0}}, "export"], "must be more than 0"),
            (["export", "bench", "evaluate", "quantize"], "bench and evaluate before it.*Put quantize first"),
            (["export", "evaluate", {"evaluate": {"tokens": 300}}], "step 3, evaluate: there is one before it"),
            (["export", "check", "check"], "step 3, check: there is one before it"),
        ],
    )
    def test_before_anything_runs(self, tmp_path, steps, said):
        with pytest.raises(UserError, match=said):
            read_recipe(written(tmp_path, *steps))

    @pytest.mark.parametrize(
        "content", ["steps: {", "- a", "", "stps: [export]", "name: a b\nsteps: [export]", "1: 2\nsteps: [export]"]
    )
    def test_files_that_are_no_recipe(self, tmp_path, content):
        path = tmp_path / "bad.yaml"
        path.write_text(content)
        with pytest.raises(UserError, match=r"bad\.yaml"):
            read_recipe(str(path))

    def test_a_name_that_is_not_there(self):
        with pytest.raises(UserError, match="int8-fast"):
            read_recipe("int8-fats")

    def test_a_folder_that_is_something_else(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "letter.txt").write_text("dear")
        with pytest.raises(UserError, match="left alone"):
            RecipeRun(read_recipe("int4"), tmp_path / "out")
        with pytest.raises(UserError, match=r"letter\.txt is a file"):
            RecipeRun(read_recipe("int4"), tmp_path / "out" / "letter.txt")

    @pytest.mark.parametrize(
        "step, said",
        [
            ("recover", "step 2, recover: it trains, and needs a text"),
            ({"recover": {"text": "/nowhere"}}, "/nowhere can't be read"),
            ({"recover": {"adapter": "half-dept"}}, "no correction half-dept"),
            ({"recover": {"adapter": "{here}"}}, "is not a LoRA adapter"),
            ({"recover": {"method": "lora", "text": "README.md", "start": "half-dept"}}, "no correction half-dept"),
            ({"prune": {"method": "wanda", "text": "{here}"}}, r"no \.txt files"),
            ({"export": {"calibration": "/nowhere"}}, "/nowhere can't be read"),
            ({"evaluate": {"text": "/nowhere"}}, "/nowhere can't be read"),
            ({"evaluate": {"tasks": [{"task": "{here}", "data": "/nowhere"}]}}, "is not a trained task"),
            ({"evaluate": {"tasks": [{"task": "assets/tasks/sentiment", "data": "/nowhere"}]}}, "/nowhere"),
        ],
    )
    def test_what_is_not_there_before_the_first_step(self, tmp_path, tiny, step, said):
        here = tmp_path / "here"
        here.mkdir()
        step = yaml.safe_load(yaml.safe_dump(step).replace("{here}", str(here)))
        steps = [DEPTH, "export", step] if "evaluate" in step else [DEPTH, step, "export"]
        steps = [DEPTH, step] if "export" in step else steps
        recipe = written(tmp_path, *steps, model=str(tiny))
        with pytest.raises(UserError, match=said):
            RecipeRun(read_recipe(recipe), tmp_path / "out").run("test")
        with pytest.raises(UserError, match=said):
            dry_run(recipe, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_text_that_is_not_there(self, tmp_path, tiny):
        with pytest.raises(UserError, match="never trains"):
            dry_run(written(tmp_path, EXPORT, model=str(tiny)), tmp_path / "out", "--text", "/nowhere")
        recipe = written(tmp_path, DEPTH, {"recover": {}}, EXPORT, model=str(tiny))
        with pytest.raises(UserError, match="/nowhere can't be read"):
            dry_run(recipe, tmp_path / "out", "--text", "/nowhere")
        with pytest.raises(UserError, match="is a file"):
            dry_run(recipe, Path(recipe))


@pytest.mark.parametrize(
    "step, said",
    [
        ({"distill": {"student": "every-9th"}}, "step 1, distill: .*take n from 2 to 4"),
        (
            {"prune": {"method": "depth", "layers": [0, 9]}},
            r"step 1, prune: it keeps the layers \[0, 9\].* from 0 to 3",
        ),
        ({"prune": {"method": "depth", "sparsity": 0.1}}, "step 1, prune: .*removes 0 of 4 layers"),
    ],
)
def test_what_the_model_has_no_layers_for_before_the_first_step(tiny, tmp_path, text, step, said):
    recipe = written(tmp_path, step, EXPORT, model=str(tiny))
    with pytest.raises(UserError, match=said):
        dry_run(recipe, tmp_path / "out", *(["--text", text] if "distill" in step else []))
    with pytest.raises(UserError, match=said):
        RecipeRun(read_recipe(recipe), tmp_path / "out", text).run("t")
    assert not (tmp_path / "out").exists()
