"""The command that writes, as a person uses it."""

import json

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
