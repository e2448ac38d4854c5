"""Every recipe that comes with the project, on a tiny model, and what is planned."""

import json

import pytest

from compression import recipe_steps
from compression.distillation.students import begin_student
from compression.pruning.counts import kept_count
from compression.recipe import read_recipe, recipe_names
from compression.recipe_options import STEPS
from compression.recipe_plan import plan
from compression.recipe_run import RecipeRun
from compression.report import write_report
from compression.results import read_results
from compression.sizes import parameters
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.weights import open_model, read_model_config
from tests.compression.recipes.recipe_files import EXPORT, written


def small(recipe):
    """With so little training and measuring that it takes seconds."""
    changes = {"tokens": 2048, "window": 64, "tokens_per_batch": 256, "rank": 2, "start": None}
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


@pytest.mark.parametrize(
    "options",
    [{"student": "fresh", "layers": 2, "hidden_size": 32}, {"student": "every-3rd"}],
    ids=lambda o: o["student"],
)
def test_a_planned_student_has_the_sizes_that_it_gets(tiny, tmp_path, options):
    teacher = open_model(str(tiny))
    sizes = (options.get(name) for name in ("layers", "hidden_size", "feed_forward_size"))
    student = begin_student(teacher, options["student"], *sizes)
    recipe = read_recipe(written(tmp_path, {"distill": options}, EXPORT))
    assert next(plan(recipe, teacher.config)).parameters == parameters(student.config)


def test_what_zeros_take_grows_with_their_text(tmp_path):
    config = read_model_config("default")

    def planned(method, tokens):
        return next(
            plan(read_recipe(written(tmp_path, {"prune": {"method": method, "tokens": tokens}}, EXPORT)), config)
        )

    short, long = planned("sparsegpt", 8192), planned("sparsegpt", 32768)
    assert long.minutes > 2 * short.minutes and long.memory_mb > short.memory_mb
    assert planned("wanda", 8192) == short
    assert planned("magnitude", 8192) == planned("magnitude", 32768)
