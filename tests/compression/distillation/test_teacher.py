"""A teacher's predictions against transformers'."""

import torch
from transformers import AutoModelForCausalLM

from compression.distillation.teacher import teacher_predictions
from gpt_tasks.backbone.weights import open_model


def test_predictions_are_transformers_likeliest_tokens(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
    monkeypatch.setattr("compression.distillation.teacher._BATCH_TOKENS", 48)
    monkeypatch.setattr("compression.distillation.teacher._ROWS", 20)  # batches and windows end inside pieces
    folder = tiny_folder("llama")[0]
    teacher = open_model(str(folder))
    windows = torch.randint(teacher.config.vocabulary_size, (5, 16), generator=torch.Generator().manual_seed(0))
    likely = teacher_predictions(teacher, windows, 4, 2.0).of([4, 0, 1])
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder)(windows[[4, 0, 1]]).logits.flatten(0, 1)
    expected = (logits / 2).log_softmax(-1).topk(4)
    assert torch.allclose(likely.log_probabilities.float(), expected.values, atol=0.02)  # bf16 where the CPU has it
    of_them = (logits / 2).log_softmax(-1).gather(-1, likely.ids)
    assert torch.allclose(of_them, expected.values, atol=0.02)  # near ties may change places
