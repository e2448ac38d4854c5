"""The commands that export, check and measure a model, as a person uses them, nonsense included."""

import json
import shutil

import pytest

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.tasks.trained_task import SHIPPED
from tests import tiny_models
from tests.command_line import call


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
