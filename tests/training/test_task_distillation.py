"""A task's answers on a larger model are what a smaller one learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from compression.distillation.students import fresh_student
from compression.export import Request, export
from compression.pruning.depth import keep_layers
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.trained_task import load_task
from gpt_tasks.tasks.windows import WindowReader
from gpt_tasks.training import teacher_answers as teacher_answers_module
from gpt_tasks.training.classification_data import TaskTraining
from gpt_tasks.training.objectives import TaskTeacher
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.teacher_answers import teacher_answers
from gpt_tasks.training.text_classification import train_task

OPTIONS = TrainingOptions(epochs=4, learning_rate=1e-2, tokens_per_batch=256)


def write_data(folder, labels=("good", "bad")):
    folder.mkdir()
    for split in ("train", "dev"):
        rows = [{"text": f"{word} {number}", "label": label} for number in range(12)
                for word, label in zip(("hello the", "hell hell"), labels, strict=True)]  # fmt: skip
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))


@pytest.fixture
def teacher(tiny_folder, tiny_artifact, tmp_path):
    data = write_data(tmp_path / "data")
    train_task(open_model(str(tiny_folder("llama")[0])), data, tmp_path / "large", TaskTraining("large"), OPTIONS)
    artifact, _ = tiny_artifact("llama")
    reader = WindowReader.of(artifact, artifact.load_tokenizer())
    return TextClassifier(EncoderEngine(artifact, "fp32"), reader, load_task(tmp_path / "large", artifact))


def features(classifier, texts):
    return torch.tensor(np.array([scored.features for scored in classifier.score(texts)]))


def test_loss_is_the_kl_divergence_of_the_softened_answers():
    theirs, ours = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]]), torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    p, q = (theirs[[0, 2]] / 3).softmax(-1), (ours / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    teacher = TaskTeacher(theirs, 0.5, 3.0, torch.zeros(3, 4))
    assert teacher.answer_loss(ours, [0, 2]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_of_features_is_two_minus_twice_the_cosine():
    theirs, ours = torch.randn(5, 8), torch.randn(2, 8)
    teacher = TaskTeacher(torch.zeros(5, 2), 0.5, 2.0, theirs.half(), 1.0)
    cosines = functional.cosine_similarity(ours, theirs[[3, 1]])
    assert teacher.feature_loss(ours, [3, 1]).item() == pytest.approx((2 - 2 * cosines).mean().item(), abs=1e-3)


def test_a_student_comes_to_answer_as_its_teacher(teacher, tiny_folder, tmp_path):
    student = keep_layers(open_model(str(tiny_folder("llama")[0])), [0, 2])
    training = TaskTraining("small", teacher="large", teacher_weight=1.0, teacher_temperature=1.0)
    figures = train_task(student, tmp_path / "data", tmp_path / "small", training, OPTIONS, teacher=teacher)
    asked = [json.loads(line)["text"] for line in (tmp_path / "data" / "dev.jsonl").read_text().splitlines()]
    answers = np.array([scored.logits for scored in teacher.score(asked)]).argmax(axis=1)
    truth = np.array([teacher.task.labels.index(label) for label in ("good", "bad") * 12])
    assert figures["accuracy"] >= (answers == truth).mean() - 0.05
    log = [json.loads(line) for line in (tmp_path / "small" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < functional.cross_entropy(torch.zeros(1, 2), torch.tensor([0])).item()
    assert "--teacher large" in (tmp_path / "small" / "README.md").read_text()


def test_a_students_features_come_to_be_its_teachers(teacher, tiny_folder, tmp_path):
    student = keep_layers(open_model(str(tiny_folder("llama")[0])), [0, 2])
    artifact = export(student, tmp_path / "exported", Request(["fp32"]))
    texts = [json.loads(line)["text"] for line in (tmp_path / "data" / "dev.jsonl").read_text().splitlines()]
    theirs = features(teacher, texts)

    def similarity(weight: float) -> float:
        """The mean cosine on dev."""
        training, out = TaskTraining("small", teacher="large", teacher_features=weight), tmp_path / f"small-{weight}"
        train_task(student, tmp_path / "data", out, training, OPTIONS, teacher=teacher)
        reader = WindowReader.of(artifact, artifact.load_tokenizer())
        ours = features(TextClassifier(EncoderEngine(artifact, "fp32"), reader, load_task(out, artifact)), texts)
        return functional.cosine_similarity(ours, theirs).mean().item()

    assert similarity(5.0) > similarity(0.0) + 0.1


def test_a_teacher_of_another_width_has_no_features_to_match(teacher, tiny_folder, tmp_path):
    student = fresh_student(open_model(str(tiny_folder("llama")[0])), layers=2, hidden_size=32, feed_forward_size=None)
    training = TaskTraining("small", teacher="large", teacher_features=1.0)
    with pytest.raises(UserError, match="Leave --teacher-features out"):
        train_task(student, tmp_path / "data", tmp_path / "out", training, OPTIONS, teacher=teacher)


def test_a_teacher_with_other_labels_is_refused(teacher, tiny_folder, tmp_path):
    data = write_data(tmp_path / "other", labels=("warm", "cold"))
    with pytest.raises(UserError, match="hasn't got the label"):
        train_task(
            open_model(str(tiny_folder("llama")[0])),
            data,
            tmp_path / "out",
            TaskTraining("small", teacher="large"),
            OPTIONS,
            teacher=teacher,
        )


def test_answers_are_kept_and_belong_to_their_teacher_and_its_texts(teacher, monkeypatch):
    monkeypatch.setattr(teacher_answers_module, "_CHUNK", 4)
    read = []
    score = teacher.score
    monkeypatch.setattr(teacher, "score", lambda texts: read.extend(texts) or score(texts))
    texts = [f"hello {number}" for number in range(10)]
    first = teacher_answers(teacher, texts)
    scores = score(texts)
    np.testing.assert_allclose(first.logits, [scored.logits for scored in scores], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first.features, [scored.features for scored in scores], rtol=1e-2, atol=1e-2)
    assert read == texts
    again = teacher_answers(teacher, texts)
    np.testing.assert_array_equal(again.logits, first.logits)
    np.testing.assert_array_equal(again.features, first.features)
    assert read == [*texts, *texts[:4]]  # by which it was known again
    assert len(teacher_answers(teacher, [*texts, "the"]).logits) == 11
    changed = replace(teacher.task, head=replace(teacher.task.head, bias=teacher.task.head.bias + 1))
    monkeypatch.setattr(teacher, "task", changed)
    np.testing.assert_allclose(teacher_answers(teacher, texts).logits, first.logits + 1, rtol=1e-4, atol=1e-4)
