"""The command that writes, as a person uses it, nonsense included; what all commands share is tried on it too."""

import json
import subprocess
import sys

import pytest

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
