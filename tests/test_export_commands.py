"""export of other families, inspect and serve-static, as a person calls them, nonsense included."""

import json

import pytest

from tests.command_line import call
from tests.compression.optimum_route import other_models


def compress(*arguments):
    return call(*arguments, program="compression")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    other_models.save("bert", folder)
    return folder


def test_a_model_of_another_family(bert, tmp_path):
    (tmp_path / "texts.txt").write_text("hello the world\nThe rain went on and on.\n")
    options = ["--check-text", tmp_path / "texts.txt", "--budget", "0.9", "--progress", "json"]
    planned = compress("export", bert, tmp_path / "out", "--dry-run", "--json", *options)
    plan = json.loads(planned.stdout)
    assert (plan["route"], plan["task"], plan["texts"]) == ("optimum", "fill-mask", 2)
    assert not (tmp_path / "out").exists()
    done = compress("export", bert, tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    assert "by optimum's exporter, for fill-mask" in done.stdout and "masked_top1_agreement" in done.stdout
    assert {json.loads(line)["stage"] for line in done.stderr.strip().split("\n")} >= {"exporting", "checking"}
    used = call("generate", "hello", "--model", tmp_path / "out")
    assert used.returncode == 2 and "exported by optimum for fill-mask" in used.stderr
    found = compress("inspect", tmp_path / "out")
    assert found.returncode == 0 and found.stdout.count("MatMul") >= 3
    refused = compress("export", bert, tmp_path / "out", "--precision", "int8", "--budget", "0.000001")
    assert refused.returncode == 2 and "Tried, with a limit of 1e-06" in refused.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["precisions"].keys() == {"fp32", "int8", "int4"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "2"], "between 0 and 1"),
        (["--precision", "int8_blocks"], "makes fp32, int8, int4, not int8_blocks"),
        (["--symmetric"], "is for this project's own graphs"),
        (["--task", "dreaming"], "invalid choice"),
        (["--task", "text-classification", "--dry-run", "--private"], "Give --push REPO too"),
        (["--push", "a/b/c"], "OWNER/NAME"),
        (["--check-text", "nowhere.txt"], "can't be read"),
        (["--from-hub", "main"], "hub"),
    ],
)
def test_mistakes(bert, tmp_path, options, message):
    done = call("export", bert, tmp_path / "out", *options, program="compression", HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_what_is_said_first(tmp_path):
    done = compress("export", tmp_path / "nowhere", tmp_path / "out", "--budget", "0.1")
    assert done.returncode == 2 and "is not a model's folder" in done.stderr


def test_options_of_the_other_route(tiny_folder, tmp_path):
    folder = tiny_folder("llama")[0]
    done = compress("export", folder, tmp_path / "out", "--budget", "0.1")
    assert done.returncode == 2 and "--budget is for models that go through optimum" in done.stderr
    done = compress("export", folder, tmp_path / "out", "--dry-run", "--push", "me/tiny", "--private")
    assert done.returncode == 0 and "uploaded to me/tiny on the hub, a private model" in done.stderr


def test_mistakes_of_inspect_and_serve_static(bert, tmp_path):
    for arguments, message in (
        (["inspect", tmp_path], "no .onnx file"),
        (["serve-static", bert], "not an exported model"),
        (["serve-static", tmp_path / "nowhere"], "There is no folder"),
        (["serve-static", bert, "--port", 99999], "between 1 and 65535"),
    ):
        done = compress(*arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
