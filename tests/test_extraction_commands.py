"""extract, train and evaluate for entities, relations and events, nonsense included."""

import json

import pytest

from tests.command_line import call


@pytest.mark.usefixtures("default_artifact")
class TestExtraction:
    TEXT = "Tim Cook of Apple met Olaf Scholz in Berlin."

    def test_entities(self):
        done = call("extract", "--task", "entities", "--text", self.TEXT)
        assert "0-8  PER  Tim Cook" in done.stdout and "37-43  LOC  Berlin" in done.stdout

    def test_formats_of_a_file(self, tmp_path):
        file = tmp_path / "text.txt"
        file.write_bytes(f"\ufeff{self.TEXT}\r\n".encode())
        record = json.loads(call("extract", "--task", "entities", "--file", file, "--json").stdout)
        assert next((span["start"], span["end"], span["label"]) for span in record["entities"]) == (0, 8, "PER")
        assert "Berlin\tB-LOC" in call("extract", "--task", "entities", "--file", file, "--conll").stdout
        assert call("extract", "--task", "entities", "--file", file, "--csv").stdout.startswith("kind,label,start")

    def test_relations_and_events_from_standard_input(self):
        done = call("extract", "--task", "relations", "-", stdin="John Wilkes Booth shot Abraham Lincoln.")
        assert "John Wilkes Booth -- Kill -> Abraham Lincoln" in done.stdout
        text = "She developed severe tremor after treatment with lithium."
        done = call("extract", "--task", "events", "--schema", "phee", "--json", "-", stdin=text)
        event = json.loads(done.stdout)["events"][0]
        assert ("Treatment.Drug", "lithium") in {(found["role"], found["text"]) for found in event["arguments"]}

    def test_nothing_found_is_said(self):
        done = call("extract", "--task", "entities", "--text", "nothing to see here")
        assert (done.returncode, done.stdout) == (0, "no entities found\n")

    def test_train_evaluate_and_extract(self, tiny_folder, tiny_artifact, tmp_path):
        data, out = tmp_path / "data", tmp_path / "out"
        data.mkdir()
        rows = [{"tokens": ["a", "b", "c"], "tags": ["O", "B-X", "O"]}, {"tokens": ["b", "a"], "tags": ["B-X", "O"]}]
        for split in ("train", "dev"):
            (data / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows * 10))
        model, artifact = tiny_folder("llama")[0], tiny_artifact("llama")[0].folder
        settings = ["--epochs", 20, "--learning-rate", 0.01, "--progress", "none"]
        done = call("train", "--task", "entities", "--data", data, "--out", out, "--model", model, *settings)
        assert "f1                          100.00" in done.stdout, done.stderr
        done = call("evaluate", "--task", out, "--data", data / "dev.jsonl", "--model", artifact, "--json")
        figures = json.loads(done.stdout)
        assert {"f1", "precision", "recall", "macro_f1", "per_type", "tokens_per_second"} <= set(figures)
        assert figures["f1"] == 1
        done = call("extract", "--task", out, "--text", "a b c", "--model", artifact)
        assert "2-3  X  b" in done.stdout

    def test_the_schema_follows_from_the_files_labels(self, tmp_path):
        file = tmp_path / "dev.jsonl"
        row = {"tokens": self.TEXT.split(), "tags": ["B-person", "I-person", "O", "B-corporation", *["O"] * 5]}
        file.write_text(json.dumps(row))
        figures = json.loads(call("evaluate", "--task", "entities", "--data", file, "--json").stdout)
        assert figures["schema"] == "social"

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["extract", "--task", "entities"], "Give one of: --text"),
            (["extract", "--task", "entities", "--text", " "], "no text"),
            (["extract", "--task", "entities", "--file", "/nowhere"], "can't be read"),
            (["extract", "--task", "entities", "--schema", "phee", "--text", "x"], "has no schema 'phee'"),
            (["extract", "--task", "nonsense", "--text", "x"], "not a trained extraction"),
            (["extract", "--task", "entities", "--text", "x", "--threshold", "7"], "between 0 and 1"),
            (["evaluate", "--task", "entities", "--data", "/nowhere"], "can't be read"),
            (["evaluate", "--task", "sentiment", "--schema", "news", "--data", "x"], "--schema belongs"),
            (["train", "--task", "entities", "--data", "x", "--out", "y", "--method", "prefix"], "head or lora"),
        ],
    )
    def test_mistakes(self, arguments, message):
        done = call(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr

    def test_labels_that_no_schema_has(self, tmp_path):
        file = tmp_path / "dev.jsonl"
        file.write_text('{"tokens": ["a"], "tags": ["B-NONSENSE"]}\n')
        done = call("evaluate", "--task", "entities", "--data", file)
        assert done.returncode == 2 and "lacks: NONSENSE" in done.stderr
