"""What every command does alike: nonsense is refused clearly, odd bytes are read, help is there."""

import json
import subprocess
import sys

import pytest

from tests.command_line import call


@pytest.mark.usefixtures("default_artifact")
class TestEveryCommand:
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
                [
                    "train",
                    "--task",
                    "x",
                    "--data",
                    "x",
                    "--out",
                    "/tmp/x",
                    "--teacher",
                    "y",
                    "--teacher-features",
                    "nan",
                ],
                "--teacher-features must be 0 or more",
            ),
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
