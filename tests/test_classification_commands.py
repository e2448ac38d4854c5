"""The commands that classify, teach, train and evaluate, as a person uses them, nonsense included."""

import json
import subprocess
import sys

import pytest

from tests.command_line import call


class TestClassification:
    def test_classify_lines_from_standard_input(self):
        done = subprocess.run(
            [sys.executable, "-m", "gpt_tasks", "classify", "--task", "intent", "-", "--json"],
            input="what is my balance\n\nflip a coin\n",
            capture_output=True,
            text=True,
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["label"] for row in rows] == ["balance", "flip_coin"]
        assert rows[0]["domain"] == "banking" and rows[0]["out_of_scope"] is False
        assert next(iter(rows[0]["probabilities"])) == "balance"

    def test_labels_of_ones_own(self):
        done = call("classify", "--labels", "cooking,sports", "--text", "Chop the onions and fry them.")
        assert done.stdout.startswith("cooking  "), done.stderr

    def test_teach_and_classify(self, tmp_path):
        data = tmp_path / "examples.csv"
        lines = [
            f"{'Fry the onions' if n % 2 else 'The striker scored'} {n},{'food' if n % 2 else 'ball'}" for n in range(8)
        ]
        data.write_text("\n".join(["text,label", *lines]))
        done = call("teach", "--data", data, "--out", tmp_path / "mine", "--json")
        assert json.loads(done.stdout)["cross_validated_accuracy"] == 1, done.stderr
        assert {path.name for path in (tmp_path / "mine").iterdir()} == {"classifier.safetensors", "confusion.svg"}
        for taught in (tmp_path / "mine", tmp_path / "mine" / "classifier.safetensors"):
            done = call("classify", "--task", taught, "--text", "Boil the potatoes.")
            assert done.stdout.startswith("food  "), done.stderr
        done = call("evaluate", "--task", tmp_path / "mine", "--data", data, "--json")
        assert json.loads(done.stdout)["accuracy"] == 1
        done = call("teach", "--data", data, "--out", tmp_path / "drawn", "--per-label", 3, "--json")
        assert json.loads(done.stdout)["examples"] == 6
        again = call("teach", "--data", data, "--out", tmp_path / "drawn", "--json")
        assert again.returncode == 0, again.stderr
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "thesis.txt").write_text("years of work")
        for out in (tmp_path / "precious", data):
            done = call("teach", "--data", data, "--out", out)
            assert done.returncode == 2 and "left alone" in done.stderr
        assert (tmp_path / "precious" / "thesis.txt").is_file() and data.is_file()
        data.write_text("text,label\na,x\nb,x\nc,y\n")
        done = call("teach", "--data", data, "--out", tmp_path / "other")
        assert done.returncode == 2 and "'y' has one example only" in done.stderr
        data.write_text("text,label\n" + "a,x\nb,y\n" * 2501)
        done = call("teach", "--data", data, "--out", tmp_path / "other")
        assert done.returncode == 2 and "--per-label" in done.stderr

    def test_train_classify_and_evaluate(self, tiny_folder, tmp_path):
        """A task of one's own on a model of one's own."""
        data = tmp_path / "data"
        data.mkdir()
        for split, count in (("train", 60), ("dev", 20)):
            rows = [
                {"text": f"{'hello the' if n % 2 else 'what else'} {n}", "label": "yes" if n % 2 else "no"}
                for n in range(count)
            ]
            (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        folder, _ = tiny_folder("llama")
        done = call("export", folder, tmp_path / "model", "--precision", "fp32", program="compression")
        assert done.returncode == 0, done.stderr
        task = tmp_path / "task"
        done = call(
            "train", "--task", "mine", "--data", data, "--out", task, "--model", folder, "--epochs", 8,
            "--learning-rate", 0.01, "--rank", 4,
        )  # fmt: skip
        assert done.returncode == 0 and "accuracy on dev 100.00 %" in done.stdout, done.stderr
        assert not (tmp_path / "task.training").exists()
        files = {path.name for path in task.iterdir()}
        assert files == {
            "README.md", "adapter_config.json", "adapter_model.safetensors", "head.json", "head.safetensors",
            "log.jsonl", "loss.png",
        }  # fmt: skip
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "thesis.txt").write_text("years of work")
        refused = call("train", "--task", "mine", "--data", data, "--out", tmp_path / "precious", "--model", folder)
        assert refused.returncode == 2 and "left alone" in refused.stderr
        model = ["--task", task, "--model", tmp_path / "model"]
        done = call("evaluate", *model, "--data", data / "dev.jsonl", "--json")
        figures = json.loads(done.stdout)
        assert figures["accuracy"] == 1 and "in_scope_accuracy" not in figures
        assert {"macro_f1", "per_class", "expected_calibration_error", "texts_per_second"} <= figures.keys()
        done = call("classify", *model, "--text", "hello the 7")
        assert done.stdout.startswith("yes  ")

    @pytest.mark.parametrize("method", ["full", "head", "soft_prompt", "prefix"])
    def test_the_other_methods(self, tiny_folder, tmp_path, method):
        rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(12)]
        for split in ("train", "dev"):
            (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        out = tmp_path / "out"
        folder, _ = tiny_folder("llama")
        done = call(
            "train", "--task", "mine", "--data", tmp_path, "--out", out, "--model", folder, "--method", method,
            "--epochs", 1,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (out / "parameters.safetensors").is_file() is (method != "head")

    def test_one_label_alone_cannot_be_learned(self, tmp_path):
        for split in ("train", "dev"):
            (tmp_path / f"{split}.jsonl").write_text('{"text": "x", "label": "a"}\n')
        done = call("train", "--task", "mine", "--data", tmp_path, "--out", tmp_path / "out")
        assert done.returncode == 2 and "one label only" in done.stderr and not (tmp_path / "out").exists()
