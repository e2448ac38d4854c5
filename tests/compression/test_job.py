"""Recipes in a process of their own, and the variants that they leave."""

import errno
import json
import os
import shutil
import time
from itertools import takewhile
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml

from compression.comparison import Answer, Facts, Variant, answer, by_key, compressible, variants
from compression.job import JobState, Limits, follow, is_built, job_folder, on_model, own_recipe, packed
from compression.parity import greedy
from compression.recipe import make_recipe, read_recipe
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.errors import UserError
from gpt_tasks.home import process_lock
from gpt_tasks.tasks.trained_task import SETTINGS_FILE, SHIPPED


@pytest.fixture
def recipe(tmp_path, tiny_folder, monkeypatch):
    """A recipe of one step on a tiny model, as a file."""
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))
    content = {"name": "mine", "model": str(tiny_folder("llama")[0]), "steps": [{"export": {"precision": ["fp32"]}}]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def run(recipe, **limits):
    return list(follow(read_recipe(recipe), Limits(**{"megabytes": 50, **limits}), lambda: False))


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
    states = follow(read_recipe(recipe), Limits(megabytes=50), lambda: False)
    next(states)
    next(states)
    job = children() - others
    assert job
    states.close()
    time.sleep(0.2)
    assert not job & children()
    assert not is_built("mine")


@pytest.fixture
def other_job(recipe):
    """The lock that a running job holds."""
    folder = job_folder(read_recipe(recipe)).parent
    folder.mkdir(parents=True)
    with process_lock(folder, "job") as held:
        yield held


def test_a_second_job_waits_for_its_turn(recipe, other_job):
    states = follow(read_recipe(recipe), Limits(megabytes=50), lambda: False)
    assert [next(states) for _ in range(3)] == 3 * [JobState(waiting=True)]
    Thread(target=other_job.release).start()  # as on a page, where any thread may end what another began
    assert next(state for state in states if not state.waiting)
    states.close()


def test_a_second_job_can_be_stopped_while_it_waits(recipe, other_job):
    others, stop = children(), Event()
    states = follow(read_recipe(recipe), Limits(megabytes=50), stop.is_set)
    assert next(states).waiting and next(states).waiting
    stop.set()
    assert list(states) == []
    assert children() == others and other_job.is_locked
    assert list(job_folder(read_recipe(recipe)).parent.iterdir()) == [Path(other_job.lock_file)]


def test_the_zip_counts_for_the_size(recipe, monkeypatch):
    monkeypatch.setattr("compression.job._SIZE_EVERY", 1)
    monkeypatch.setattr("compression.job._megabytes", lambda folder: 30)
    with pytest.raises(UserError) as error:
        run(recipe)
    assert error.value.key == "job_too_large"


def test_a_full_disk_while_packing_is_said(recipe, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "make_archive", full)
    with pytest.raises(UserError, match=r"No space left.*Make room"):
        packed(read_recipe(recipe), tmp_path)


def test_older_recipes_of_visitors_go_but_not_what_a_job_needs(recipe):
    folder = job_folder(read_recipe(recipe)).parent
    for age in range(6):
        (folder / f"own-{age}").mkdir(parents=True)
        os.utime(folder / f"own-{age}", (100 - age, 100 - age))
    (folder / "own-5.yaml").write_text("")
    (folder / "own-failed.yaml").write_text("")  # its job has made no folder
    job = read_recipe(recipe).model_copy(update={"model": str(folder / "own-4" / "steps" / "1-prune")})
    states = follow(job, Limits(megabytes=50), lambda: False)
    assert [next(states).waiting for _ in range(2)] == [True, False]
    states.close()
    assert sorted(path.name for path in folder.glob("own-*")) == ["own-0", "own-1", "own-2", "own-4"]


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPT_TASKS_JOB_MINUTES", "7.5")
    assert Limits.from_environment() == Limits(minutes=7.5)
    monkeypatch.setenv("GPT_TASKS_JOB_MB", "lots")
    with pytest.raises(UserError, match="GPT_TASKS_JOB_MB"):
        Limits.from_environment()


def test_own_steps_are_a_recipe_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
    content = own_recipe("default", {"method": "depth", "sparsity": 0.3}, ["int8_blocks"])
    found = make_recipe(content, "own")
    assert [name for name, _ in found.steps] == ["prune", "export", "bench", "evaluate"]
    assert own_recipe("default", {"method": "depth", "sparsity": 0.4}, ["int8_blocks"])["name"] != content["name"]


def test_what_a_recipe_has_pruned_is_compressed_further(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
    (tmp_path / "recipes").mkdir()
    export = {"export": {"precision": ["int8_blocks"]}}
    steps = [{"prune": {"method": "depth", "layers": [0, 2]}}, export]
    first = make_recipe({"name": "own-pruned", "model": str(tiny_folder("llama")[0]), "steps": steps}, "test")
    list(follow(first, Limits(megabytes=50), lambda: False))
    shutil.copytree(job_folder(first) / "steps" / "1-prune", job_folder(first) / "steps" / ".1-prune.part-1")  # killed
    model = compressible()["own-pruned"]
    second = on_model(make_recipe({"name": "again", "steps": [export]}, "test"), model)
    list(follow(second, Limits(megabytes=50), lambda: False))
    assert list(compressible()) == ["own-pruned"]  # the other has left the weights as they were
    assert second.name.startswith("own-again-")
    results = json.loads((job_folder(second) / "results.json").read_text())
    assert results["model"] == model and results["variants"][0]["layers"] == 2


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

    @pytest.fixture
    def results(self, tmp_path, monkeypatch):
        """What a run of a recipe that comes along has measured."""
        monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
        rows = [
            {"baseline": True, "precision": "fp32", "ratio": 1.0},
            {"baseline": True, "precision": "int8", "ratio": 1.009},
            {"baseline": False, "precision": "int8", "ratio": 2.5},
        ]
        tasks = {"intent": {"baseline": 0.966, "model": 0.945}, "mine": {"model": 0.5}}
        found = {"model": "default", "variants": rows, "tasks": tasks}
        path = tmp_path / "recipes" / "tiny" / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(found))
        return path

    def test_a_recipes_variant_has_its_ratio_and_the_scores_of_tasks(self, results):
        variant = Variant("tiny", "int8", results.parent / "model", "tiny")
        assert variant.facts() == Facts(2.5, {"intent": 0.945, "mine": 0.5})
        of_a_variant = {**json.loads(results.read_text()), "model": str(results.parents[1] / "own-1" / "model")}
        results.write_text(json.dumps(of_a_variant))
        assert variant.facts().ratio is None
        assert Variant("int4", "int8", None, "int4").facts() == Facts()

    def test_the_served_model_has_what_is_known_of_it(self, results, tiny_artifact, tmp_path):
        artifact, _ = tiny_artifact("llama")
        assert Variant("tiny", "int8", artifact.folder).facts() == Facts()
        shutil.copytree(artifact.folder, tmp_path / "served")
        report = json.loads((tmp_path / "served" / "report.json").read_text())
        intent = json.loads((SHIPPED / "intent" / SETTINGS_FILE).read_text())
        default = {"source": {"kind": "default"}, "fingerprint": intent["backbone"]["fingerprint"]}
        (tmp_path / "served" / "report.json").write_text(json.dumps({**report, **default}))
        found = Variant("tiny", "int8", tmp_path / "served").facts()
        assert (found.ratio, found.tasks) == (1.009, {"intent": 0.966})
        assert found.trained["intent"] == intent["dev"]["accuracy"]
        checked = {**report, "checks": {"int8": {"ratio": 1.02}}}
        (tmp_path / "served" / "report.json").write_text(json.dumps(checked))
        assert Variant("tiny", "int8", tmp_path / "served").facts() == Facts(1.02)

    @pytest.mark.parametrize("as_chat", [True, False])
    def test_an_answer_is_the_greedy_text(self, tiny_artifact, as_chat):
        artifact, _ = tiny_artifact("llama")
        variant = Variant("tiny", "fp32", artifact.folder)
        last = list(answer(variant, "the hello", 8, as_chat))[-1]
        tokenizer = artifact.load_tokenizer()
        messages = [{"role": "user", "content": "the hello"}]
        ids = tokenizer.encode_chat(messages) if as_chat else tokenizer.encode("the hello")
        written = takewhile(lambda token: token not in artifact.end_ids, greedy(OrtEngine(artifact, "fp32"), ids, 8))
        assert "".join(last.pieces) == tokenizer.decode(list(written)) != ""
        assert last.size_mb > 0 and last.time_to_first_token_ms > 0

    def test_a_prompt_longer_than_the_context_is_not_cut_without_a_word(self, tiny_artifact):
        artifact, _ = tiny_artifact("llama")
        with pytest.raises(UserError, match="The prompt is too long"):
            next(answer(Variant("tiny", "fp32", artifact.folder), "hello " * artifact.config.context_length, 8, False))

    def test_the_first_token_that_differs(self):
        variant = Variant("x", "fp32", None)
        one = Answer(variant, pieces=["a", "b", "c"])
        assert one.first_difference(Answer(variant, pieces=["a", "x", "c"])) == 1
        assert one.first_difference(Answer(variant, pieces=["a", "b"])) is None
