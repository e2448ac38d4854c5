"""The tabs Compress and Compare, without a browser: what can be chosen, and who waits for whom."""

import pytest

from compression.job import job_folder
from compression.recipe import read_recipe
from gpt_tasks.backbone.backbone import MODEL_VARIABLE
from gpt_tasks.errors import UserError
from gpt_tasks.ui import compare_tab, compress_tab
from gpt_tasks.ui.controls import Run

OWN = ("none", 0.3, ["int8_blocks"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)


@pytest.fixture
def half():
    """The checkpoint that a run of a recipe has left."""
    run = job_folder(read_recipe("half-depth-distilled-int8"))
    for step in ("1-prune", "2-recover"):
        (run / "steps" / step).mkdir(parents=True)
        (run / "steps" / step / "model.safetensors").touch()
    (run / "results.json").write_text("{}")
    return run / "steps" / "2-recover"


def values(choices):
    return [value for _, value in choices]


class TestModels:
    def test_the_served_one_is_the_default(self):
        assert values(compress_tab._named_models(None)) == ["served"]
        assert "half-depth-distilled-int8" in values(compress_tab._named_recipes(None, "served"))
        assert compress_tab._chosen("served", "int8-fast", *OWN) == read_recipe("int8-fast")

    def test_another_one_that_is_served_bears_the_recipes_that_fit_any_model(self, tiny_artifact, monkeypatch):
        artifact, _ = tiny_artifact("llama")
        monkeypatch.setenv(MODEL_VARIABLE, str(artifact.folder))
        assert values(compress_tab._named_models(None)) == ["served", "default"]
        assert values(compress_tab._named_recipes(None, "served")) == ["int4", "int8-fast", "own"]
        assert "tiny" in values(compress_tab._named_recipes(None, "default"))
        chosen = compress_tab._chosen("served", "int8-fast", *OWN)
        assert chosen.model == str(artifact.folder) and chosen.steps == read_recipe("int8-fast").steps
        assert job_folder(chosen) != job_folder(read_recipe("int8-fast"))  # whose results are the default model's
        with pytest.raises(UserError, match="no recipe tiny for this model"):
            compress_tab._chosen("served", "tiny", *OWN)
        assert compress_tab._chosen("default", "tiny", *OWN) == read_recipe("tiny")

    def test_what_a_recipe_has_made(self, half):
        assert values(compress_tab._named_models(None)) == ["served", "half-depth-distilled-int8"]
        assert compress_tab._chosen("half-depth-distilled-int8", "int4", *OWN).model == str(half)
        assert compress_tab._chosen("half-depth-distilled-int8", "own", *OWN).model == str(half)

    def test_one_that_is_gone(self):
        with pytest.raises(UserError, match="Choose another one"):
            compress_tab._chosen("own-123", "int4", *OWN)


class TestComparisons:
    def updates(self, run):
        return compare_tab._in_turn(iter([("first", ""), ("second", "")]), run, None)

    def test_the_second_visitor_waits_until_the_first_has_ended(self):
        first, second = self.updates(Run()), self.updates(Run())
        assert next(first) == ("first", "")
        assert "waiting for its turn" in next(second)[0]
        first.close()
        assert next(second) == ("first", "")
        assert list(second) == [("second", "")]

    def test_who_waits_can_stop(self):
        first, run = self.updates(Run()), Run()
        next(first)
        second = self.updates(run)
        next(second)
        run.stop_asked.set()
        assert list(second) == []
        first.close()
