"""Distillation of tiny models, and what it writes."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from compression.distillation.distil import Distillation, distil
from compression.distillation.objective import Matching, layer_map
from compression.distillation.students import every_nth_layer, fresh_student
from compression.distillation.windows import cut_windows
from compression.pruning.depth import keep_layers
from compression.pruning.prune import Pruning, prune
from compression.pruning.vocabulary import keep_tokens
from compression.variants import apply_correction
from gpt_tasks.backbone.checkpoint import write_checkpoint
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.task_run import load_tokenizer
from gpt_tasks.training.trainer import Trainer

TEXT = ["the hello hell the " * 400]
OPTIONS = TrainingOptions(epochs=2, learning_rate=1e-2, tokens_per_batch=64, evaluations_per_epoch=1, patience=99)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))


@pytest.fixture
def teacher(tiny_folder):
    return open_model(str(tiny_folder("llama")[0]))


def small(**changes):
    return Distillation(**{"window": 32, "tokens": 512, **changes})


@pytest.mark.parametrize("variant", ["llama_untied", "gpt2"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_student_comes_closer_and_loads_in_transformers(tiny_folder, tmp_path, variant, method):
    teacher = open_model(str(tiny_folder(variant)[0]))
    student = keep_layers(teacher, [0, 2])
    figures = distil(teacher, student, TEXT, tmp_path / "out", small(method=method, rank=4), OPTIONS)
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]
    written = open_model(str(tmp_path / "out"))
    ids = cut_windows(load_tokenizer(teacher), TEXT, 32, 512).dev
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = load_decoder(written.weights)(ids).logits
        assert torch.allclose(logits, theirs(ids).logits, atol=1e-3)
        perplexity = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).exp()
    assert figures["perplexity"] == pytest.approx(perplexity.item(), rel=0.02)


def test_the_adapter_alone_on_the_student_is_the_trained_student(teacher, tmp_path):
    student = keep_layers(teacher, [0, 2])
    distil(teacher, student, TEXT, tmp_path / "out", small(method="lora", rank=4), OPTIONS)
    (tmp_path / "student").mkdir()
    write_checkpoint(student, tmp_path / "student")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    corrected = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids).logits
        assert torch.allclose(corrected(ids).logits, expected, atol=2e-2)  # the adapter is kept in fp16


@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_a_correction_is_gone_on_from(tiny_folder, tmp_path, variant):
    teacher = open_model(str(tiny_folder(variant)[0]))
    student, lora = keep_layers(teacher, [0, 2]), {"method": "lora", "rank": 4}
    first = distil(teacher, student, TEXT, tmp_path / "first", small(**lora), OPTIONS)
    still = replace(OPTIONS, learning_rate=1e-9)
    start = {"start": str(tmp_path / "first" / "adapter")}
    again = distil(teacher, student, TEXT, tmp_path / "again", small(**lora, **start), still)
    assert again["perplexity"] == pytest.approx(first["perplexity"], rel=5e-3)  # kept in fp16, and perhaps read in bf16
    onward = distil(teacher, student, TEXT, tmp_path / "onward", small(**lora, **start), OPTIONS)
    assert onward["perplexity"] < first["perplexity"]
    with pytest.raises(UserError, match="not those of rank 2"):
        distil(teacher, student, TEXT, tmp_path / "out", small(method="lora", rank=2, **start), OPTIONS)
    with pytest.raises(UserError, match="--method lora"):
        distil(teacher, student, TEXT, tmp_path / "out", small(**start), OPTIONS)


def test_matching_what_is_inside(teacher, tmp_path):
    matching = Matching(predictions=0, text=0, hidden=1, attention=1)
    student = fresh_student(teacher, 2, 32, None)
    with pytest.raises(UserError, match="numbers of heads"):
        distil(teacher, student, TEXT, tmp_path / "out", small(matching=matching), OPTIONS)
    narrow = Matching(predictions=0, text=0, hidden=1)
    distil(teacher, student, TEXT, tmp_path / "narrow", small(matching=narrow), OPTIONS)
    distil(teacher, every_nth_layer(teacher, 2), TEXT, tmp_path / "half", small(matching=matching), OPTIONS)
    for out in ("narrow", "half"):
        log = [json.loads(line) for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]
        losses = [entry["loss"] for entry in log if "loss" in entry]
        assert losses[-1] < losses[0], out


def test_a_resumed_run_gives_the_same_bytes(teacher, tmp_path, monkeypatch):
    student = keep_layers(teacher, [0, 2])
    distil(teacher, student, TEXT, tmp_path / "whole", small(), OPTIONS)
    steps = 0
    take = Trainer._take_step

    def interrupted(self, batches):
        nonlocal steps
        steps += 1
        if steps == 12:
            raise KeyboardInterrupt
        return take(self, batches)

    monkeypatch.setattr(Trainer, "_take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distil(teacher, student, TEXT, tmp_path / "broken", small(), OPTIONS)
    assert not (tmp_path / "broken").exists()
    distil(teacher, student, TEXT, tmp_path / "broken", small(), OPTIONS, resume=True)
    whole, broken = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == broken


class TestSparseStudent:
    @pytest.fixture
    def student(self, teacher):
        return prune(teacher, Pruning("magnitude", pattern=(2, 4)), TEXT[0])[0]

    def test_zeros_stay_when_every_weight_is_trained(self, teacher, student, tmp_path):
        distil(teacher, student, TEXT, tmp_path / "out", small(), OPTIONS)
        trained = open_model(str(tmp_path / "out"))
        before, after = (model.weights["blocks.1.feed_forward.down.weight"] for model in (student, trained))
        assert (before == 0).mean() == 0.5
        assert (after[before == 0] == 0).all()
        assert (after != before)[before != 0].mean() > 0.9

    def test_a_dense_correction_is_refused_before_anything_is_written(self, teacher, student, tmp_path):
        with pytest.raises(UserError, match=r"sparse.*--method full"):
            distil(teacher, student, TEXT, tmp_path / "out", small(method="lora"), OPTIONS)
        with pytest.raises(UserError, match=r"sparse.*--method full"):
            apply_correction(student, tmp_path, tmp_path / "out")
        assert not any(tmp_path.iterdir())


def test_layers_are_mapped_evenly_and_the_last_to_the_last():
    assert layer_map(3, 6) == [(0, 1), (1, 3), (2, 5)]
    assert layer_map(2, 3)[-1] == (1, 2)


def test_every_nth_layer_ends_with_the_last(teacher):
    kept = every_nth_layer(teacher, 2)
    assert (kept.weights["blocks.1.attention.query.weight"] == teacher.weights["blocks.2.attention.query.weight"]).all()
    assert kept.config.layers == 2
    with pytest.raises(UserError, match="every 4-th: take n from 2 to 3"):
        every_nth_layer(teacher, 4)


class TestRefused:
    def test_another_vocabulary(self, teacher, tiny_folder, tmp_path):
        student, _ = keep_tokens(teacher, {1, 2}, read_json(tiny_folder("llama")[0] / "tokenizer.json"))
        with pytest.raises(UserError, match="another vocabulary"):
            distil(teacher, student, TEXT, tmp_path / "out", small(), OPTIONS)

    def test_a_teacher_smaller_than_its_student(self, teacher, tmp_path):
        with pytest.raises(UserError, match="Swap the two"):
            distil(keep_layers(teacher, [0]), teacher, TEXT, tmp_path / "out", small(), OPTIONS)

    def test_more_layers_than_hidden_states_to_match(self, teacher, tmp_path):
        student = fresh_student(teacher, 5, 16, 16)
        with pytest.raises(UserError, match="has 5 layers, more than its teacher's 3"):
            distil(teacher, student, TEXT, tmp_path / "out", small(matching=Matching(hidden=1)), OPTIONS)

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"start": "half-depth", "method": "full"}, "--method lora"),
            ({"start": "/nowhere", "method": "lora"}, "no correction /nowhere"),
        ],
    )
    def test_a_start_that_does_not_fit_before_the_teacher_reads(self, teacher, tmp_path, monkeypatch, changes, said):
        monkeypatch.setattr("compression.distillation.distil.teacher_predictions", lambda *_, **__: pytest.fail("read"))
        with pytest.raises(UserError, match=said):
            distil(teacher, keep_layers(teacher, [0, 2]), TEXT, tmp_path / "out", small(**changes), OPTIONS)

    @pytest.mark.parametrize("text", [[""], ["the"], ["the hello " * 4]])
    def test_too_little_text(self, teacher, tmp_path, text):
        with pytest.raises(UserError, match="more text"):
            distil(teacher, keep_layers(teacher, [0]), text, tmp_path / "out", small(), OPTIONS)

    @pytest.mark.parametrize("window", [1, 4096])
    def test_windows_that_do_not_fit(self, teacher, tmp_path, window):
        with pytest.raises(UserError, match="--window"):
            distil(teacher, keep_layers(teacher, [0]), TEXT, tmp_path / "out", small(window=window), OPTIONS)

    def test_a_disk_without_room_for_two_checkpoints(self, teacher, tmp_path, monkeypatch):
        monkeypatch.setattr("compression.distillation.distil.parameters", lambda config: 10**8)
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3199 * 10**6})())
        with pytest.raises(UserError, match="3200 MB are needed to train the student") as error:
            distil(teacher, keep_layers(teacher, [0]), TEXT, tmp_path / "out", small(), OPTIONS)
        assert "GPT_TASKS_HOME" not in str(error.value)  # it isn't the cache folder's disk
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize("changes", [{"predictions": -1}, {"temperature": 0}, {"top_k": 0}])
    def test_weights_out_of_range(self, changes):
        with pytest.raises(ValueError, match=next(iter(changes))):
            Matching(**changes)

    @pytest.mark.parametrize("layers, size", [(2, 50), (2, 8)])
    def test_sizes_that_do_not_fit(self, teacher, layers, size):
        with pytest.raises(UserError, match="multiple of the heads"):
            fresh_student(teacher, layers, size, None)
