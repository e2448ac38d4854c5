"""The trainer, its methods and its files, on tiny random models."""

import json
import random

import numpy as np
import pytest
import torch
from peft import PeftModel

from gpt_tasks.backbone.architectures import adapter_modules
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.heads import LinearHead
from gpt_tasks.training.adapter_files import write_adapter
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.batches import pad, shuffled_batches
from gpt_tasks.training.methods import METHODS, Lora, make_tuned
from gpt_tasks.training.objectives import Classification, Classifier
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.pooling import POOLINGS, Pooling
from gpt_tasks.training.trainer import CHECKPOINT_NAME, LOG_NAME, Trainer
from tests import tiny_models


def examples(count, seed):
    """The label is whether token 7 comes: nothing that the length or the last token tells."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        ids = [rng.randrange(10, 60) for _ in range(rng.randrange(3, 9))]
        if index % 2:
            ids[rng.randrange(len(ids))] = 7
        rows.append((ids, index % 2))
    return rows


def objective(folder, method="lora", **kwargs):
    torch.manual_seed(0)
    model = open_model(str(folder))
    tuned = make_tuned(
        method, load_decoder(model.weights).to(training_dtype()), adapter_modules(model.hugging_face_config), **kwargs
    )
    return Classification(Classifier(tuned, "attention", 2), examples(300, 0), examples(100, 1))


class TestMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_learns(self, tiny_folder, tmp_path, method):
        folder, _ = tiny_folder("llama")
        made = objective(folder, method)
        before = made.evaluate()["loss"]
        rate = 1e-3 if method == "full" else 2e-2
        best = Trainer(made, TrainingOptions(epochs=6, learning_rate=rate, tokens_per_batch=256), tmp_path).run()
        assert best["accuracy"] > (0.6 if method in ("head", "soft_prompt") else 0.8)
        assert made.evaluate()["loss"] < before
        assert made.evaluate()["accuracy"] == pytest.approx(best["accuracy"])  # the best parameters were put back

    @pytest.mark.parametrize("method", METHODS)
    def test_padding_changes_nothing(self, tiny_folder, method):
        model = objective(tiny_folder("llama")[0], method).model.eval()
        alone, mask = pad([[5, 6, 7]])
        together, both = pad([[5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8]])
        with torch.no_grad():
            torch.testing.assert_close(
                model.features(alone, mask)[0], model.features(together, both)[0], atol=0.05, rtol=0.05
            )

    def test_only_the_method_and_the_head_are_trained(self, tiny_folder):
        names = {
            method: {
                name.split(".")[0] if name.startswith("head") else name.rstrip(".0123456789").split(".")[-1]
                for name, parameter in objective(tiny_folder("llama")[0], method).model.named_parameters()
                if parameter.requires_grad
            }
            for method in ("lora", "head", "soft_prompt", "prefix")
        }
        assert names == {
            "lora": {"down", "up", "query", "head"},
            "head": {"query", "head"},
            "soft_prompt": {"prompt", "query", "head"},
            "prefix": {"keys", "values", "query", "head"},
        }

    def test_full_attention_sees_what_comes_later(self, tiny_folder):
        decoder = load_decoder(open_model(str(tiny_folder("llama")[0])).weights)
        first, mask = pad([[5, 6, 7]])
        other, _ = pad([[5, 6, 8]])
        for causal, same in ((True, True), (False, False)):
            tuned = make_tuned("head", decoder, {}, causal=causal)
            hidden = tuned.encode(first, mask)[0, 0], tuned.encode(other, mask)[0, 0]
            assert torch.allclose(*hidden) is same


class TestTrainer:
    @pytest.mark.parametrize("average", [0.0, 0.9])
    def test_a_resumed_run_ends_as_an_unbroken_one(self, tiny_folder, tmp_path, average):
        folder, _ = tiny_folder("llama")
        options = TrainingOptions(
            epochs=2, learning_rate=1e-2, tokens_per_batch=256, evaluations_per_epoch=2, average=average
        )
        runs = {}
        for name in ("whole", "broken"):
            (tmp_path / name).mkdir()
            runs[name] = objective(folder)
        Trainer(runs["whole"], options, tmp_path / "whole").run()

        class Stop(Exception):
            pass

        def stop(progress):
            if progress.done == progress.total * 2 // 3:
                raise Stop

        with pytest.raises(Stop):
            Trainer(runs["broken"], options, tmp_path / "broken", report=stop).run()
        assert (tmp_path / "broken" / CHECKPOINT_NAME).is_file()
        again = objective(folder)
        Trainer(again, options, tmp_path / "broken", resume=True).run()
        for (name, one), (_, other) in zip(
            runs["whole"].model.named_parameters(), again.model.named_parameters(), strict=True
        ):
            torch.testing.assert_close(one, other, msg=name)
        logged = [
            [json.loads(line)["step"] for line in (tmp_path / name / LOG_NAME).read_text().splitlines()]
            for name in ("whole", "broken")
        ]
        assert logged[0] == logged[1]  # nothing twice

    def test_keeps_the_moving_average_of_the_steps(self, tiny_folder, tmp_path):
        made = objective(tiny_folder("llama")[0], "head")
        weight, after = made.model.head.weight, []
        begin = weight.detach().clone()
        options = TrainingOptions(
            epochs=2, learning_rate=1e-2, tokens_per_batch=64, evaluations_per_epoch=1e-3, average=0.6
        )
        Trainer(made, options, tmp_path, report=lambda _: after.append(weight.detach().clone())).run()
        expected = begin
        for step, parameters in enumerate(after):
            decay = min(0.6, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * parameters
        assert len(after) > 20
        torch.testing.assert_close(weight.detach(), expected)
        assert not torch.allclose(weight, after[-1])

    @pytest.mark.parametrize(
        ("options", "identity", "changed"), [({"seed": 2}, {"rank": 8}, "seed"), ({"seed": 1}, {"rank": 4}, "rank")]
    )
    def test_a_checkpoint_of_another_run_is_refused(self, tiny_folder, tmp_path, options, identity, changed):
        made = objective(tiny_folder("llama")[0])
        Trainer(made, TrainingOptions(seed=1), tmp_path, identity={"rank": 8})._save()
        with pytest.raises(UserError, match=f"another run: {changed} differed"):
            Trainer(made, TrainingOptions(**options), tmp_path, resume=True, identity=identity)

    def test_a_run_that_begins_anew_leaves_no_checkpoint_of_the_one_before(self, tiny_folder, tmp_path):
        made = objective(tiny_folder("llama")[0], "head")
        Trainer(made, TrainingOptions(), tmp_path)._save()
        Trainer(made, TrainingOptions(), tmp_path)
        assert not (tmp_path / CHECKPOINT_NAME).exists()

    def test_a_checkpoint_that_can_not_be_written_leaves_the_one_before(self, tiny_folder, tmp_path, monkeypatch):
        trainer = Trainer(objective(tiny_folder("llama")[0], "head"), TrainingOptions(), tmp_path)
        trainer._save()
        before = (tmp_path / CHECKPOINT_NAME).read_bytes()

        def full(state, path):
            path.write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:595] . PytorchStreamWriter failed writing file")

        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(UserError, match=r"can't be written.*Make room.*--resume"):
            trainer._save()
        assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT_NAME, LOG_NAME]

    def test_stops_early_and_logs(self, tiny_folder, tmp_path):
        made = objective(tiny_folder("llama")[0], "head")
        options = TrainingOptions(epochs=50, learning_rate=1e-9, patience=2, evaluations_per_epoch=1)
        Trainer(made, options, tmp_path).run()
        log = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
        evaluations = [entry for entry in log if "dev" in entry]
        assert log[0]["options"]["patience"] == 2 and len(evaluations) < 10
        assert all(entry["learning_rate"] <= 1e-9 for entry in log if "loss" in entry)

    def test_accumulated_batches_give_the_step_of_one(self, tiny_folder, tmp_path):
        """The mean over all examples, whatever the batches' sizes."""
        steps = []
        for batches in ([range(12)], [range(4), range(4, 12)]):
            made = objective(tiny_folder("llama")[0])
            trainer = Trainer(made, TrainingOptions(gradient_norm=1e9), tmp_path)
            trainer._optimizer = torch.optim.SGD(trainer._trained.values())  # Adam's first step forgets the size
            before = made.model.head.weight.detach().clone()
            trainer._take_step([list(batch) for batch in batches])
            steps.append(made.model.head.weight.detach() - before)
        size = steps[0].abs().max()
        assert size > 0
        torch.testing.assert_close(steps[1] / size, steps[0] / size, atol=2e-3, rtol=2e-2)

    def test_a_loss_that_is_not_a_number_is_said(self, tiny_folder, tmp_path):
        made = objective(tiny_folder("llama")[0])
        with torch.no_grad():
            made.model.head.weight.fill_(float("nan"))
        with pytest.raises(UserError, match="smaller learning rate"):
            Trainer(made, TrainingOptions(), tmp_path).run()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"epochs": 0},
            {"learning_rate": -1},
            {"warmup": 1},
            {"average": 1},
            {"patience": 0},
            {"evaluations_per_epoch": 0},
        ],
    )
    def test_options_out_of_range(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TrainingOptions(**wrong)


class TestBatches:
    def test_every_example_once_within_the_size(self):
        lengths = [random.Random(0).randrange(1, 40) for _ in range(500)]
        batches = shuffled_batches(lengths, 100, random.Random(1))
        assert sorted(index for batch in batches for index in batch) == list(range(500))
        assert all(len(batch) * max(lengths[i] for i in batch) <= 100 for batch in batches)

    def test_no_examples(self):
        assert shuffled_batches([], 100, random.Random(1)) == []


class TestPooling:
    @pytest.mark.parametrize("kind", POOLINGS)
    def test_serving_pools_as_training_does(self, kind):
        torch.manual_seed(0)
        pooling = Pooling(kind, 8)
        query = torch.randn(8)
        if kind == "attention":
            with torch.no_grad():
                pooling.query.copy_(query)
        hidden, mask = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
        head = LinearHead(kind, np.zeros((2, 8)), np.zeros(2), query.numpy())
        expected = pooling(hidden, mask).detach().numpy()
        np.testing.assert_allclose(head.features(hidden.numpy(), mask.numpy()), expected, atol=1e-6)


class TestAdapterFiles:
    @pytest.mark.parametrize("variant", ["llama", "qwen2", "gpt2"])
    def test_peft_loads_what_was_trained(self, tiny_folder, tmp_path, variant):
        """Hidden states in causal mode."""
        folder, _ = tiny_folder(variant)
        model = open_model(str(folder))
        modules = adapter_modules(model.hugging_face_config)
        tuned = Lora(load_decoder(model.weights), modules=modules, rank=3, alpha=6)
        with torch.no_grad():
            for parameter in tuned.trained().values():
                parameter.copy_(torch.randn_like(parameter).mul(0.1).half().float())  # what the file can hold
        write_adapter(tmp_path, tuned, modules, "base", fan_in_fan_out=variant == "gpt2")
        peft = PeftModel.from_pretrained(tiny_models.make(variant), tmp_path).eval()
        ids, mask = pad([[5, 6, 7, 8, 9, 30, 31]])
        with torch.no_grad():
            expected = peft(ids, output_hidden_states=True).hidden_states[-1]
            torch.testing.assert_close(tuned.encode(ids, mask), expected, atol=1e-4, rtol=1e-4)
