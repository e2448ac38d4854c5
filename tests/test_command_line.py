"""The command lines as a person uses them, nonsense included."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.tasks.trained_task import SHIPPED
from tests import tiny_models
from tests.command_line import call

PROMPT = "Once upon a time, in a small village by the sea,"


@pytest.mark.usefixtures("default_artifact")
class TestGenerate:
    def test_json(self):
        done = call("generate", PROMPT, "--max-new-tokens", 8, "--temperature", 0, "--repetition-penalty", 1, "--json")
        result = json.loads(done.stdout)
        assert result["text"].startswith(" there")
        assert {
            "text",
            "prompt_tokens",
            "new_tokens",
            "time_to_first_token_ms",
            "tokens_per_second",
            "stop_reason",
        } <= result.keys()
        assert (result["prompt_tokens"], result["new_tokens"], result["stop_reason"]) == (13, 8, "length")
        assert done.stderr == ""

    def test_the_prompt_from_standard_input_streams_to_standard_output(self):
        done = call("generate", "-", "--max-new-tokens", 8, "--seed", 1, stdin=PROMPT)
        assert done.returncode == 0
        assert done.stdout.strip()
        assert "8 new" in done.stderr and "13 prompt tokens" in done.stderr

    def test_a_topic(self):
        done = call(
            "generate",
            "--task",
            "topic_writing",
            "--form",
            "poem",
            "--keywords",
            "sea,lamp",
            "a lighthouse",
            "--max-new-tokens",
            5,
            "--json",
        )
        assert json.loads(done.stdout)["prompt"] == "Write a poem about a lighthouse. Include these words: sea, lamp."

    def test_a_dialogue(self):
        # In fp32: what int8 finds likeliest here is a close thing that differs between processors.
        options = ["--precision", "fp32", "--temperature", 0, "--json"]
        done = call("generate", "--task", "dialogue", "What is the capital of France?", *options)
        result = json.loads(done.stdout)
        assert "Paris" in result["text"]
        assert result["stop_reason"] == "end_of_text"

    def test_a_dialogue_turn_by_turn(self):
        done = call(
            "generate",
            "--task",
            "dialogue",
            "--max-new-tokens",
            20,
            stdin="What is the capital of France?\n\nAnd of Italy?\n",
        )
        assert done.returncode == 0
        first, second = (line for line in done.stderr.split("\n") if "prompt tokens" in line)
        assert "(0 reused)" in first and "(0 reused)" not in second

    def test_stop_strings_and_seed(self):
        settings = ["--max-new-tokens", 40, "--seed", 5, "--json"]
        first, second = (json.loads(call("generate", PROMPT, *settings).stdout)["text"] for _ in range(2))
        assert first == second
        stop = first[20:24]
        result = json.loads(call("generate", PROMPT, *settings, "--stop", "nowhere to be found", "--stop", stop).stdout)
        assert result["stop_reason"] == "stop_string"
        assert result["text"] == first[: first.index(stop)]

    def test_a_text_longer_than_the_context(self, tiny_artifact):
        folder = tiny_artifact("llama")[0].folder
        done = call("generate", "-", "--model", folder, "--max-new-tokens", 2, "--json", stdin="It rained. " * 40)
        assert "left out" in json.loads(done.stdout)["notices"][0]
        assert "note: The text is longer" in done.stderr

    def test_the_length_of_a_model_with_a_short_context(self, tiny_artifact):
        done = call("generate", "hello", "--model", tiny_artifact("llama")[0].folder, "--json")
        assert done.returncode == 0, done.stderr
        done = call("bench", tiny_artifact("llama")[0].folder, program="compression")
        assert done.returncode == 2 and "too short for the measurement" in done.stderr

    def test_another_models_folder(self, tiny_artifact):
        artifact, _ = tiny_artifact("gpt2")
        done = call(
            "generate", "hello", "--model", artifact.folder, "--precision", "fp32", "--max-new-tokens", 5, "--json"
        )
        assert json.loads(done.stdout)["new_tokens"] <= 5

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["generate", ""], "prompt is empty"),
            (["generate"], "no prompt"),
            (["generate", "--task", "haiku", "x"], "'haiku' is unknown"),
            (["generate", "x", "--temperature", "-1"], "temperature must be between 0 and 10"),
            (["generate", "x", "--top-p", "0"], "top p must be above 0"),
            (["generate", "x", "--top-p", "2"], "top p must be above 0"),
            (["generate", "x", "--max-new-tokens", "0"], "at least 1"),
            (["generate", "x", "--max-new-tokens", "99999"], "between 1 and 8191"),
            (["generate", "x", "--temperature", "warm"], "invalid float value: 'warm'"),
            (["generate", "x", "--model", "/nowhere"], "not an exported model"),
            (["generate", "x", "--precision", "int3"], "has no precision 'int3'; it has: fp32, int8"),
            (["generate", "--task", "topic_writing", "x", "--form", "opera"], "'opera' is unknown"),
            (
                ["generate", "x", "--task", "dialogue", "--system", "Be kind. " * 5000],
                "with the system prompt) is too long",
            ),
            (["classify", "--task", "intent"], "Give one of: --text"),
            (["classify", "--text", "x"], "either --task TASK or --labels"),
            (["classify", "--text", "x", "--labels", "a,a"], "there twice"),
            (["classify", "--text", "x", "--labels", "a,b", "--template", "no"], "template must have"),
            (["classify", "--text", "x", "--task", "intent", "--template", "{}"], "belongs to --labels"),
            (["classify", "--task", "intent", "--text", " "], "is empty"),
            (["classify", "--task", "haiku", "--text", "x"], "haiku is not a trained task"),
            (["classify", "--task", "intent", "--file", "/nowhere.csv"], "can't be read"),
            (["classify", "--task", "intent", "--text", "x", "--model", "/nowhere"], "not an exported model"),
            (["evaluate", "--task", "intent", "--data", "/nowhere.jsonl"], "can't be read"),
            (["train", "--task", "x", "--data", "/nowhere", "--out", "/tmp/x", "--epochs", "0"], "epochs must be more"),
            (["train", "--task", "x", "--data", "/nowhere", "--out", "/tmp/x"], "can't be read"),
            (["train", "--task", "x", "--data", "/nowhere", "--out", "/proc/x/y"], "can't be written"),
            (["train", "--task", "x", "--data", "x", "--out", "/tmp/x", "--reading", "twice"], "--reading is for the"),
            (["train", "--task", "events", "--data", "x", "--out", "/tmp/x", "--balanced"], "--balanced is for class"),
            (["train", "--task", "x", "--data", "x", "--out", "/tmp/x", "--teacher-weight", "1"], "with --teacher"),
            (
                ["train", "--task", "entities", "--data", "x", "--out", "/tmp/x", "--rank", "4"],
                "--rank is for --method",
            ),
            (["classify", "--task", "assets/extraction/news", "--text", "x"], "is an extraction. Use it with"),
            (["extract", "--task", "assets/tasks/intent", "--text", "x"], "is a classification. Use it with"),
            (["dance"], "invalid choice: 'dance'"),
            ([], "COMMAND"),
        ],
    )
    def test_mistakes(self, arguments, message):
        done = call(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""

    def test_odd_bytes_in_a_text(self):
        command = [sys.executable, "-m", "gpt_tasks"]
        odd = b"caf\xe9 \xf0\x9f"
        done = subprocess.run([*command, "generate", odd, "--max-new-tokens", "3", "--json"], capture_output=True)
        assert json.loads(done.stdout)["new_tokens"] == 3
        done = subprocess.run(
            [*command, "classify", "--task", "sentiment", "--text", odd, "--json"], capture_output=True
        )
        assert json.loads(done.stdout)["text"].startswith("caf\ufffd")

    def test_a_cache_that_cannot_be_written(self):
        done = call("generate", "x", GPT_TASKS_HOME="/proc/nowhere")
        assert done.returncode == 2
        assert "GPT_TASKS_HOME" in done.stderr and "Traceback" not in done.stderr

    def test_a_reader_that_goes_away(self):
        done = subprocess.run(
            f"{sys.executable} -m gpt_tasks generate x --max-new-tokens 200 | head -c 1",
            shell=True,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr

    @pytest.mark.parametrize("command", ["prepare", "generate", "classify", "evaluate", "teach", "train", "average"])
    def test_help(self, command):
        done = call(command, "--help")
        assert done.returncode == 0 and "usage" in done.stdout


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


class TestCompression:
    def test_export(self, tmp_path):
        tiny_models.save("gpt2", tmp_path / "model")
        done = call(
            "export",
            tmp_path / "model",
            tmp_path / "out",
            "--precision",
            "int8_blocks",
            "--json",
            program="compression",
        )
        assert list(json.loads(done.stdout)["precisions"]) == ["int8_blocks"]
        assert Artifact(tmp_path / "out").precisions == ["int8_blocks"]
        assert "Exporting int8_blocks" in done.stderr

    def test_check(self, default_artifact):
        done = call("check", default_artifact.folder, "--sizes", "--json", program="compression")
        (result,) = json.loads(done.stdout)
        assert result["precision"] == "int8" and result["passed"] is True
        assert {
            "perplexity",
            "reference_perplexity",
            "ratio",
            "top1_agreement",
            "mean_kl",
            "greedy_agreement",
            "size_mb",
        } <= result.keys()
        assert result["sizes"]["embedding.codes"] == 49_152 * 576
        assert done.returncode == 0

    def test_a_check_that_fails_exits_with_1(self, tiny_artifact, tmp_path):
        folder = tmp_path / "model"
        shutil.copytree(tiny_artifact("llama")[0].folder, folder)
        report = json.loads((folder / "report.json").read_text())
        report["precisions"]["int8_blocks"]["ratio_limit"] = 0.5
        (folder / "report.json").write_text(json.dumps(report))
        done = call("check", folder, "--precision", "int8_blocks", program="compression")
        assert done.returncode == 1
        assert "int8_blocks: FAILED" in done.stdout

    def test_bench(self, default_artifact):
        done = call(
            "bench",
            default_artifact.folder,
            "--precision",
            "int8",
            "--rounds",
            1,
            "--json",
            program="compression",
        )
        (row,) = json.loads(done.stdout)
        assert row["engine"] == "ours" and row["precision"] == "int8"
        figures = [value for value in row.values() if isinstance(value, float)]
        assert len(figures) == 6 and min(figures) > 0
        assert row["peer"] is None
        assert row["peak_memory_mb"] < 700

    def test_what_a_bench_would_measure(self, default_artifact, tmp_path):
        def plan(*options):
            return call("bench", default_artifact.folder, *options, "--dry-run", "--json", program="compression")

        for task in ("classify", "extract"):
            planned = json.loads(plan("--task", task, "--peer", "transformers", "--rounds", 1).stdout)
            assert planned["peers"] == ["transformers"] and "int8" in planned["precisions"]
        assert "doesn't classify" in plan("--task", "classify", "--peer", "llama.cpp").stderr
        assert "doesn't extract" in plan("--task", "extract", "--peer", "optimum").stderr
        assert "has no precision" in plan("--task", "classify", "--precision", "int3").stderr
        head_only = tmp_path / "sentiment"
        shutil.copytree(SHIPPED / "sentiment", head_only)
        settings = json.loads((head_only / "head.json").read_text())
        (head_only / "head.json").write_text(json.dumps({**settings, "method": "head"}))
        assert "has no adapter" in plan("--task", "classify", "--classifier", head_only).stderr

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["export", "/nowhere", "out"], "not a model's folder"),
            (["export", "default", "/proc/out"], "can't be written"),
            (["export", "default", "out", "--precision", "int3"], "invalid choice: 'int3'"),
            (["bench", "/nowhere"], "not an exported model"),
            (["check", "/nowhere"], "not an exported model"),
            (["export", "default", "out", "--calibration", "/nowhere.txt"], "can't be read"),
            (["quantize", "/nowhere", "out"], "not an exported model"),
            (["calibrate", "default", "/proc/file"], "can't be written"),
        ],
    )
    def test_mistakes(self, arguments, message):
        done = call(*arguments, program="compression")
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("command", ["export", "quantize", "calibrate", "check", "bench"])
    def test_help(self, command):
        done = call(command, "--help", program="compression")
        assert done.returncode == 0 and "usage" in done.stdout


class TestApp:
    @pytest.mark.parametrize("port", ["abc", "²", "0", "99999", "-1"])
    def test_a_port_that_is_none(self, port):
        done = subprocess.run(
            [sys.executable, "app.py"], env={**os.environ, "GRADIO_SERVER_PORT": port}, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "not a port number" in done.stderr and "Traceback" not in done.stderr

    def test_a_proxy_for_the_network_does_not_matter(self, default_artifact):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        environment = {**os.environ, **proxy, "GRADIO_SERVER_PORT": str(port), "NO_PROXY": "", "no_proxy": ""}
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert any("Running on local URL" in line for line in process.stdout)
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            assert direct.open(f"http://127.0.0.1:{port}/", timeout=60).status == 200
            assert process.poll() is None
        finally:
            process.terminate()
            said = process.communicate()[0]
        assert "Traceback" not in said

    def test_a_port_that_is_taken(self, default_artifact):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            environment = {**os.environ, "GRADIO_SERVER_PORT": str(taken.getsockname()[1])}
            done = subprocess.run(
                [sys.executable, "app.py"], env=environment, capture_output=True, text=True, timeout=180
            )
        assert done.returncode == 1
        assert "is taken" in done.stderr and "Traceback" not in done.stderr
