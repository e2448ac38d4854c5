"""Recipes: what is refused, every shipped one on a tiny model, and going on after a stop."""

import json
import shutil
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig

from compression import recipe_steps
from compression.calibration_text import default_calibration_text
from compression.commands import run as command
from compression.derived_model import derived
from compression.distillation.distil import Distillation, distil, teaching_options
from compression.distillation.students import begin_student
from compression.distillation.teacher import teacher_predictions
from compression.export import Request, export
from compression.pruning.counts import kept_count
from compression.recipe import evaluated_on, make_recipe, read_recipe, recipe_names
from compression.recipe_inputs import input_hashes
from compression.recipe_options import STEPS
from compression.recipe_plan import plan
from compression.recipe_run import RecipeRun
from compression.report import write_report
from compression.results import read_results
from compression.sizes import parameters
from compression.texts import read_texts
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.weights import HeldWeights, content_hash, fingerprint, open_model, read_model_config
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
            ([{"prune": {"method": "wanda"}}, {"recover": {"method": "lora"}}, "export"], "would fill the zeros"),
            ([{"prune": {"method": "wanda"}}, {"recover": {"adapter": "x"}}, "export"], "would fill the zeros"),
            ([DEPTH], "never exports"),
            ([], "steps"),
            (["export", "bench", ["x"]], "step 3"),
            ([{"export": 3}], "must be names with values"),
            ([{"prune": {"method": "depth", "pattern": "2:4"}}, "export"], "a pattern is for magnitude"),
            ([{"prune": {"method": "wanda", "pattern": "4:4"}}, "export"], "and leave one"),
            ([{"prune": {"method": "wanda", "layers": [0]}}, "export"], "choosing layers is for depth"),
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
        recipe = written(tmp_path, EXPORT, model=str(tiny))
        with pytest.raises(UserError, match="/nowhere can't be read"):
            dry_run(recipe, tmp_path / "out", "--text", "/nowhere")
        with pytest.raises(UserError, match="is a file"):
            dry_run(recipe, Path(recipe))


def dry_run(recipe, out, *options):
    parser = ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([recipe, "--out", str(out), "--progress", "none", "--dry-run", *options]))


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


def changed_copy(folder, tmp_path):
    """The model with one linear weight changed, as a LoRA correction changes it: its norms stay."""
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    model = AutoModelForCausalLM.from_pretrained(copy)
    model.model.layers[1].mlp.down_proj.weight.data += 0.5
    model.save_pretrained(copy)
    return str(copy)


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


class TestCheck:
    def checked(self, tmp_path, steps, tiny, name):
        recipe = read_recipe(written(tmp_path, *steps, "check", model=str(tiny)))
        return RecipeRun(recipe, tmp_path / name, resume=True).run("t")["checks"]

    def test_fp32_is_compared_with_the_checkpoint(self, tmp_path, tiny, monkeypatch):
        found = self.checked(tmp_path, [EXPORT], tiny, "out")
        assert found["fp32"]["perplexity"] != found["fp32"]["reference_perplexity"]  # two engines, not one twice
        assert found["fp32"]["ratio"] == pytest.approx(1, abs=1e-4)
        (tmp_path / "out" / "steps" / "2-check.json").unlink()
        model = open_model(str(tiny))
        zeros = {
            "embedding.weight": 0 * model.weights["embedding.weight"]
        }  # every token is as likely: beats a random one
        other = replace(model, weights=HeldWeights(model.config, {**model.weights, **zeros}))
        monkeypatch.setattr(recipe_steps, "open_model_or_artifact", lambda *_: other)
        with pytest.raises(UserError, match="fp32 failed its check"):
            self.checked(tmp_path, [EXPORT], tiny, "out")

    def test_what_quantize_leaves_is_compared_with_its_own_export(self, tmp_path, tiny):
        stale = tmp_path / "out" / "steps" / "9-export"
        export(open_model(changed_copy(tiny, tmp_path)), stale, Request(["fp32"]))
        found = self.checked(tmp_path, [EXPORT, {"quantize": {"precision": ["int8_blocks"]}}], tiny, "out")
        assert list(found) == ["int8_blocks"] and found["int8_blocks"]["mean_kl"] < 0.05


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
        dry_run(recipe, tmp_path / "out", "--text", text)
    with pytest.raises(UserError, match=said):
        RecipeRun(read_recipe(recipe), tmp_path / "out", text).run("t")
    assert not (tmp_path / "out").exists()


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
