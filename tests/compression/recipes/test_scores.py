"""The scores of tasks beside the perplexity."""

import json

from compression.recipe import read_recipe
from compression.recipe_run import RecipeRun
from tests.command_line import call
from tests.compression.recipes.recipe_files import EXPORT, written


def test_a_shipped_name_on_another_model_is_scored_alone(tiny, tmp_path):
    rows = [{"text": f"{'hello the' if n % 2 else 'what else'} {n}", "label": "ab"[n % 2]} for n in range(20)]
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev"):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = tmp_path / "sentiment"
    done = call("train", "--task", "sentiment", "--data", data, "--out", task, "--model", tiny, "--method", "head")
    assert done.returncode == 0, done.stderr
    scored = {"tasks": [{"task": str(task), "data": str(data / "dev.jsonl")}], "tokens": 300}
    recipe = read_recipe(written(tmp_path, EXPORT, {"evaluate": scored}, model=str(tiny)))
    found = RecipeRun(recipe, tmp_path / "out").run("t")["tasks"]
    assert list(found["sentiment"]) == ["model"]  # the shipped one is the default model's
    assert 0 < found["sentiment"]["model"] <= 1
