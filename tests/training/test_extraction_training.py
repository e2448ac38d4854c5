"""Extractions trained on tiny random models: what they learn, what they write, what they refuse."""

import json
import random

import numpy as np
import pytest

from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.annotations import read_annotated
from gpt_tasks.tasks.extraction.corpus import evaluate_extraction
from gpt_tasks.tasks.extraction.extraction_task import load_extraction
from gpt_tasks.training.extraction import ExtractionTraining, train_extraction
from gpt_tasks.training.options import TrainingOptions

QUICK = TrainingOptions(epochs=25, learning_rate=1e-2, tokens_per_batch=512, evaluations_per_epoch=0.2, patience=10)


def sentence(rng):
    """A name is "b" before "cd": only the word after it tells. Names are in places, "e", that come after them."""
    words = [rng.choice(["a", "b", "f", "g"]) for _ in range(4)] + ["b", "cd", "e"]
    names = [index for index in range(len(words) - 1) if words[index] == "b" and words[index + 1] == "cd"]
    return words, names[-1], len(words) - 1


def entities(rng):
    words, name, place = sentence(rng)
    tags = ["O"] * len(words)
    tags[name : name + 2] = ["B-NAME", "I-NAME"]
    tags[place] = "B-PLACE"
    return {"tokens": words, "tags": tags}


def relations(rng):
    row = entities(rng)
    name, place = row["tags"].index("B-NAME"), row["tags"].index("B-PLACE")
    return {**row, "relations": [{"head": [name, name + 2], "tail": [place, place + 1], "relation": "in"}]}


def pairs(rng):
    words, name, place = sentence(rng)
    first = rng.random() < 0.5
    words[place] = "e" if first else "g"
    label = "X(e1,e2)" if first else "Other"
    return {"tokens": words, "head": [name, name + 2], "tail": [place, place + 1], "relation": label}


def events(rng):
    words, name, place = sentence(rng)
    arguments = [
        {"trigger": 0, "start": place, "end": place + 1, "role": "Where"},
        {"trigger": 0, "start": name, "end": name + 1, "role": "Who.First"},
    ]
    return {"tokens": words, "triggers": [{"start": name + 1, "end": name + 2, "type": "Be"}], "arguments": arguments}


@pytest.fixture
def data(tmp_path):
    """A function: makes a folder of rows."""

    def make(kind, rows=60):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        rng = random.Random(0)
        for split in ("train", "dev"):
            sentences = [{**kind(rng), "doc": row // 20} for row in range(rows)]
            (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in sentences))
        return folder

    return make


def train(folder, data, out, task="entities", options=QUICK, resume=False, **settings):
    training = ExtractionTraining(task=task, schema="tiny", **settings)
    return train_extraction(open_model(str(folder)), data, out, training, options, resume=resume)


@pytest.mark.parametrize(
    ("kind", "figure"),
    [(entities, "f1"), (relations, "end_to_end_f1"), (pairs, "macro_f1"), (events, "argument_f1")],
)
def test_learns_and_serves_what_it_learned(tiny_artifact, tiny_folder, data, tmp_path, kind, figure):
    folder, out = tiny_folder("llama")[0], tmp_path / "out"
    corpus = data(kind)
    task = "relations" if kind is pairs else kind.__name__
    trained = train(folder, corpus, out, task)
    assert trained[figure] > 0.9
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "head.json",
        "head.safetensors",
        "log.jsonl",
        "loss.png",
    }
    assert f"data | {kind.__name__}: 60 sentences" in (out / "README.md").read_text()
    artifact, _ = tiny_artifact("llama")
    sentences = read_annotated(corpus / "dev.jsonl")
    served = evaluate_extraction(EncoderEngine(artifact, "fp32"), artifact, load_extraction(out, artifact), sentences)
    assert served[figure] == pytest.approx(trained[figure], abs=0.03)
    assert served["tokens_per_second"] > 0


@pytest.mark.parametrize("reading", ["once", "twice", "in_context"])
def test_lora_corrects_the_backbone(tiny_artifact, tiny_folder, data, tmp_path, reading):
    folder, out = tiny_folder("llama")[0], tmp_path / "out"
    corpus = data(entities)
    trained = train(folder, corpus, out, method="lora", rank=2, reading=reading)
    assert trained["f1"] > 0.9
    assert (out / "adapter_model.safetensors").is_file()
    artifact, _ = tiny_artifact("llama")
    sentences, engine = read_annotated(corpus / "dev.jsonl"), EncoderEngine(artifact, "fp32")
    task = load_extraction(out, artifact)
    assert task.settings.reading == reading and task.settings.touching == {"entity": []}
    assert np.abs(next(iter(task.adapter.matrices.values()))).max() > 0
    assert evaluate_extraction(engine, artifact, task, sentences)["f1"] == pytest.approx(trained["f1"], abs=0.03)


def test_what_is_read_in_context_is_read_once_an_epoch(tiny_folder, data, tmp_path):
    """Not once for each of the sentences in it."""
    folder, corpus = tiny_folder("llama")[0], data(entities)
    options = TrainingOptions(epochs=1, tokens_per_batch=256)
    steps = {}
    for reading in ("once", "in_context"):
        out = tmp_path / reading
        train(folder, corpus, out, options=options, method="lora", rank=2, reading=reading)
        steps[reading] = max(json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines())
    assert 1 < steps["in_context"] < 2 * steps["once"]


def test_a_run_of_another_model_is_not_resumed(tiny_folder, data, tmp_path, monkeypatch):
    corpus, out = data(entities, 10), tmp_path / "out"
    options = TrainingOptions(epochs=1)
    monkeypatch.setattr("gpt_tasks.training.extraction.write_trained", lambda out, tasks: None)  # stopped at the end
    train(tiny_folder("llama")[0], corpus, out, options=options)
    with pytest.raises(UserError, match="another run: model differed"):
        train(tiny_folder("qwen2")[0], corpus, out, options=options, resume=True)


def test_lora_goes_on_from_a_head(tiny_artifact, tiny_folder, data, tmp_path):
    """A step of no size leaves the head's figures as they are, but for the rounding of its file."""
    folder, corpus, head = tiny_folder("llama")[0], data(relations), tmp_path / "head"
    begun = train(folder, corpus, head, "relations")
    still = TrainingOptions(epochs=0.1, learning_rate=1e-9)
    lora = {"method": "lora", "rank": 2}
    trained = train(folder, corpus, tmp_path / "lora", "relations", still, start=str(head), **lora)
    assert trained["end_to_end_f1"] == pytest.approx(begun["end_to_end_f1"], abs=0.01)
    assert "--start head" in (tmp_path / "lora" / "README.md").read_text()
    assert load_extraction(tmp_path / "lora", tiny_artifact("llama")[0]).adapter is not None
    for start, words in [("lora", "corrected its backbone"), ("nothing", "not a trained extraction")]:
        with pytest.raises(UserError, match=words):
            train(folder, corpus, tmp_path / "no", "relations", still, start=str(tmp_path / start), **lora)
    with pytest.raises(UserError, match="other labels"):
        train(folder, data(entities), tmp_path / "no", options=still, start=str(head), reading="twice", **lora)
    assert not (tmp_path / "no").exists()


def test_no_layer_above_the_features_is_corrected(tiny_folder, data, tmp_path):
    folder, out = tiny_folder("llama")[0], tmp_path / "out"
    model = open_model(str(folder))
    last = max(feature_layers(model.config))
    with pytest.raises(UserError, match=f"0 to {last - 1}"):
        train(folder, data(entities), out, method="lora", first_layer=last)
    assert last < model.config.layers


def test_full_attention_trains_and_is_not_served(tiny_artifact, tiny_folder, data, tmp_path):
    folder, out = tiny_folder("llama")[0], tmp_path / "out"
    train(folder, data(entities, 10), out, causal=False, options=TrainingOptions(epochs=1))
    with pytest.raises(UserError, match="full attention"):
        load_extraction(out, tiny_artifact("llama")[0])


def test_the_same_seed_gives_the_same_head(tiny_folder, data, tmp_path):
    folder, corpus = tiny_folder("llama")[0], data(relations, 20)
    options = TrainingOptions(epochs=2, learning_rate=1e-2)
    heads = []
    for name in ("one", "two"):
        train(folder, corpus, tmp_path / name, "relations", options)
        heads.append((tmp_path / name / "head.safetensors").read_bytes())
    assert heads[0] == heads[1]


def test_fewer_sentences(tiny_folder, data, tmp_path):
    train(tiny_folder("llama")[0], data(entities), tmp_path / "out", options=TrainingOptions(epochs=1), sentences=5)
    assert "5 sentences trained on" in (tmp_path / "out" / "README.md").read_text()


def test_what_is_wrong_with_the_data_is_said(tiny_folder, data, tmp_path):
    folder, corpus = tiny_folder("llama")[0], data(entities, 5)
    (corpus / "dev.jsonl").write_text('{"tokens": ["a"], "tags": ["B-OTHER"]}\n')
    with pytest.raises(UserError, match="'OTHER', which train"):
        train(folder, corpus, tmp_path / "out")
    (corpus / "train.jsonl").write_text('{"tokens": ["a"], "tags": ["O"]}\n')
    with pytest.raises(UserError, match="marks nothing"):
        train(folder, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_that_a_task_has_not_got(tiny_artifact, tiny_folder, data, tmp_path):
    train(tiny_folder("llama")[0], data(entities, 10), tmp_path / "out", options=TrainingOptions(epochs=1))
    artifact, _ = tiny_artifact("llama")
    path = tmp_path / "other.jsonl"
    path.write_text('{"tokens": ["a"], "tags": ["B-OTHER"]}\n')
    with pytest.raises(UserError, match="hasn't got the labels OTHER"):
        evaluate_extraction(
            EncoderEngine(artifact, "fp32"), artifact, load_extraction(tmp_path / "out", artifact), read_annotated(path)
        )
