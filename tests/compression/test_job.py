"""Recipes in a process of their own, and the variants that they leave."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from compression.comparison import Answer, Variant, answer, by_key, variants
from compression.job import JobState, Limits, follow, is_built, job_folder, own_recipe, write_own
from compression.recipe import read_recipe
from gpt_tasks.errors import UserError


@pytest.fixture
def recipe(tmp_path, tiny_folder, monkeypatch):
    """A recipe of one step on a tiny model, as a file."""
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))
    content = {"name": "mine", "model": str(tiny_folder("llama")[0]), "steps": [{"export": {"precision": ["fp32"]}}]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def run(recipe, **limits):
    return list(follow(recipe, job_folder(read_recipe(recipe)), Limits(**{"megabytes": 50, **limits}), lambda: False))


def test_a_job_tells_its_steps_and_leaves_results(recipe):
    assert not is_built("mine")
    states = run(recipe)
    assert states[0] == JobState(waiting=True)
    assert (states[-1].step, states[-1].steps, states[-1].name) == (1, 1, "export")
    assert is_built("mine")


def test_a_failed_job_says_why(recipe, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: broken\nmodel: /nowhere/at/all\nsteps: [export]\n")
    with pytest.raises(UserError, match=r"nowhere.*not a model's folder") as error:
        run(str(broken))
    assert error.value.key == "job_failed"


def test_a_job_is_ended_by_time(recipe):
    with pytest.raises(UserError) as error:
        run(recipe, minutes=0)
    assert error.value.key == "job_too_long"


def children():
    """Processes that this one has started."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def test_who_stops_looking_stops_the_job(recipe):
    others = children()  # of other tests
    states = follow(recipe, job_folder(read_recipe(recipe)), Limits(megabytes=50), lambda: False)
    next(states)
    next(states)
    job = children() - others
    assert job
    states.close()
    time.sleep(0.2)
    assert not job & children()
    assert not is_built("mine")


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPT_TASKS_JOB_MINUTES", "7.5")
    assert Limits.from_environment() == Limits(minutes=7.5)
    monkeypatch.setenv("GPT_TASKS_JOB_MB", "lots")
    with pytest.raises(UserError, match="GPT_TASKS_JOB_MB"):
        Limits.from_environment()


def test_own_steps_are_a_recipe_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
    content = own_recipe("default", {"method": "depth", "sparsity": 0.3}, ["int8_blocks"])
    found = read_recipe(str(write_own(content)))
    assert [name for name, _ in found.steps] == ["prune", "export", "bench", "evaluate"]
    assert own_recipe("default", {"method": "depth", "sparsity": 0.4}, ["int8_blocks"])["name"] != content["name"]


class TestComparison:
    def test_variants_of_the_served_model_and_those_that_can_be_built(self, tiny_artifact, tmp_path, monkeypatch):
        monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
        artifact, _ = tiny_artifact("llama")
        there = variants(artifact)
        assert [variant.precision for variant in there if variant.folder] == artifact.precisions
        assert {v.recipe for v in there if not v.folder} == {"pruned-30-recovered-int8", "half-depth-distilled-int8"}
        keys = [there[1].key, "nonsense", there[0].key]
        assert by_key(keys, there) == [there[1], there[0]]

    def test_what_an_older_version_has_built_is_left_out(self, tiny_artifact, tmp_path, monkeypatch):
        monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
        artifact, _ = tiny_artifact("llama")
        built = tmp_path / "recipes" / "int4"
        shutil.copytree(artifact.folder, built / "model")
        (built / "results.json").write_text("{}")
        assert "int4" in {variant.recipe for variant in variants(artifact)}
        report = built / "model" / "report.json"
        report.write_text(json.dumps({**json.loads(report.read_text()), "format": 1}))
        assert "int4" not in {variant.recipe for variant in variants(artifact)}

    @pytest.mark.parametrize("as_chat", [True, False])
    def test_an_answer_is_the_greedy_text(self, tiny_artifact, as_chat):
        artifact, _ = tiny_artifact("llama")
        variant = Variant("tiny", "fp32", artifact.folder)
        last = list(answer(variant, "the hello", 8, as_chat))[-1]
        tokenizer = artifact.load_tokenizer()
        assert "".join(last.pieces) == tokenizer.decode(last.ids)
        assert 0 < len(last.ids) <= 8
        assert last.size_mb > 0 and last.time_to_first_token_ms > 0

    def test_the_first_token_that_differs(self):
        variant = Variant("x", "fp32", None)
        one = Answer(variant, pieces=["a", "b", "c"])
        assert one.first_difference(Answer(variant, pieces=["a", "x", "c"])) == 1
        assert one.first_difference(Answer(variant, pieces=["a", "b"])) is None
