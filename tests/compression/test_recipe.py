"""Recipes: what is refused, every shipped one on a tiny model, and going on after a stop."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig

from compression import recipe_steps
from compression.calibration_text import default_calibration_text
from compression.pruning.counts import kept_count
from compression.recipe import STEPS, evaluated_on, make_recipe, read_recipe, recipe_names
from compression.recipe_plan import plan
from compression.recipe_run import RecipeRun
from compression.report import merged_variants, pareto, write_report
from compression.results import read_results
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.weights import open_model, read_model_config
from gpt_tasks.errors import UserError
from gpt_tasks.training.trainer import Trainer
from tests import tiny_models


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**tiny_models.LLAMA, "num_hidden_layers": 4, "max_position_embeddings": 640},
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_models.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the hello hell the " * 3000)
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))
    # A tenth of the calibration text: what is chosen by it is tested elsewhere.
    short = default_calibration_text()[:2000]
    for module in ("compression.export", "compression.pruning.prune"):
        monkeypatch.setattr(f"{module}.default_calibration_text", lambda: short)


def written(tmp_path, *steps, **others):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"steps": list(steps), **others}))
    return str(path)


DEPTH, EXPORT = (
    {"prune": {"method": "depth", "sparsity": 0.5, "by_influence": True}},
    {"export": {"precision": ["fp32"]}},
)


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
            ([DEPTH], "never exports"),
            ([], "steps"),
            (["export", "bench", ["x"]], "step 3"),
            ([{"export": 3}], "must be names with values"),
        ],
    )
    def test_before_anything_runs(self, tmp_path, steps, said):
        with pytest.raises(UserError, match=said):
            read_recipe(written(tmp_path, *steps))

    @pytest.mark.parametrize("content", ["steps: {", "- a", "", "stps: [export]", "name: a b\nsteps: [export]"])
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

    def test_teaching_without_a_text(self, tmp_path, tiny):
        recipe = read_recipe(written(tmp_path, DEPTH, "recover", EXPORT, model=str(tiny)))
        with pytest.raises(UserError, match="needs a text"):
            RecipeRun(recipe, tmp_path / "out").run("test")
        assert (tmp_path / "out" / "steps" / "1-prune.json").is_file()  # what was done is kept
        assert not (tmp_path / "out" / "model").exists()


def small(recipe):
    """With so little training and measuring that it takes seconds."""
    changes = {"tokens": 2048, "window": 64, "tokens_per_batch": 256, "rank": 2}
    steps = []
    for name, step in recipe.steps:
        values = {key: value for key, value in changes.items() if key in type(step).model_fields}
        if name == "evaluate":
            values = {"tokens": 256, "window": 64}
        if name == "prune" and step.layers:
            values = {"layers": [0, 3]}
        if name == "bench":
            values = {"rounds": 1}
        steps.append((name, step.model_copy(update=values)))
    return recipe.model_copy(update={"steps": steps})


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_on_a_tiny_model(tmp_path, tiny, text, name, monkeypatch):
    # A random model bears no quantization: what the check says is tested elsewhere, here that it is asked.
    asked = []
    monkeypatch.setitem(recipe_steps.WORK, STEPS["check"], lambda step, place: asked.append(place.here) or {})
    recipe = small(read_recipe(name)).model_copy(update={"model": str(tiny)})
    results = RecipeRun(recipe, tmp_path / "out", text).run("test")
    artifact = Artifact(tmp_path / "out" / "model")
    artifact.verify()
    assert asked
    assert {row["precision"] for row in results["variants"] if not row["baseline"]} == set(artifact.precisions)
    assert all(row["perplexity"] > 1 and row["decode_tokens_per_second"] > 0 for row in results["variants"])
    write_report([read_results(tmp_path / "out")], tmp_path / "report")
    html = (tmp_path / "report.html").read_text()
    assert name in html and "data:image/png" in html and "http" not in html.replace("http-equiv", "")
    assert len(json.loads((tmp_path / "report.json").read_text())["variants"]) == len(results["variants"])


def test_shipped_recipes_and_their_plans():
    assert set(recipe_names()) == {"int8-fast", "int4", "half-depth-distilled-int8", "pruned-30-recovered-int8", "tiny"}
    config = read_model_config("default")
    for name in recipe_names():
        recipe = read_recipe(name)
        assert recipe.name == name and recipe.summary
        steps = list(plan(recipe, config))
        assert [step.title for step in steps] == [f"{n}-{kind}" for n, (kind, _) in enumerate(recipe.steps, 1)]
        assert all(step.minutes >= 0 and step.memory_mb > 0 for step in steps)
    for name in ("half-depth-distilled-int8", "pruned-30-recovered-int8", "tiny"):
        step = read_recipe(name).steps[0][1]
        kept = kept_count(config.layers, step.sparsity)
        assert len(step.layers) == kept and sorted(set(step.layers)) == step.layers and step.layers[-1] < config.layers
    halved = next(plan(read_recipe("half-depth-distilled-int8"), config))
    assert halved.parameters == pytest.approx(81.4e6, rel=0.01)


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
            RecipeRun(asked, tmp_path / name).run("t")["variants"][-1]["perplexity"]
            for name, asked in (("own", evaluating), ("other", evaluated_on(evaluating, str(validation))))
        ]
        assert figures[0] != figures[1]
        with pytest.raises(UserError, match="There is no text /nowhere"):
            RecipeRun(evaluated_on(evaluating, "/nowhere"), tmp_path / "third").run("t")
        without = evaluating.model_copy(update={"steps": evaluating.steps[:1]})
        with pytest.raises(UserError, match="never evaluates"):
            evaluated_on(without, str(validation))

    def test_a_model_that_changed_is_begun_anew(self, tmp_path, recipe, text, tiny):
        RecipeRun(recipe, tmp_path / "out", text).run("test")
        copy = tmp_path / "changed"
        shutil.copytree(tiny, copy)
        reference = AutoModelForCausalLM.from_pretrained(copy)
        reference.model.norm.weight.data += 0.5
        reference.save_pretrained(copy)
        began = []
        changed = recipe.model_copy(update={"model": str(copy)})
        RecipeRun(changed, tmp_path / "out", text, resume=True).run("t", lambda n, name, done: began.append(done))
        assert began == [False, False, False]
        assert open_model(str(tmp_path / "out" / "steps" / "1-prune")).config.layers == 2


ROWS = [
    {"name": "a", "size_mb": 10, "ratio": 1.0},
    {"name": "b", "size_mb": 5, "ratio": 1.2},
    {"name": "c", "size_mb": 6, "ratio": 1.3},  # b is smaller and better
    {"name": "d", "size_mb": 5, "ratio": 1.2},  # as b
]


class TestReport:
    def test_pareto(self):
        assert [row["name"] for row in pareto(ROWS, "size_mb", more_is_better=False)] == ["a", "b", "d"]
        assert [row["name"] for row in pareto(ROWS, "size_mb", more_is_better=True)] == ["a"]

    def test_the_original_is_there_once(self):
        def of(recipe):
            rows = [{"name": recipe, "precision": "int8", "baseline": False}]
            rows.append({"name": "original", "precision": "int8", "baseline": True})
            return {"model": "default", "recipe": recipe, "variants": rows, "tasks": {}}

        names = [row["name"] for row in merged_variants([of("x"), of("y")])]
        assert names == ["original", "x", "y"]

    def test_results_that_are_not_there(self, tmp_path):
        with pytest.raises(UserError, match=r"results\.json"):
            read_results(tmp_path)
