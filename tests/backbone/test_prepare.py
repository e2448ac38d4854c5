"""The cache folder: made once, whole or not at all."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.default_model import default_gguf
from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.errors import UserError
from gpt_tasks.home import whole_folder


@pytest.fixture
def new_home(tmp_path, monkeypatch):
    """An empty cache, with the weights from the usual one."""
    monkeypatch.setenv("GPT_TASKS_GGUF", str(default_gguf()))
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def prepared_home(new_home, default_artifact):
    """As `new_home`, with a copy of the model in it."""
    shutil.copytree(default_artifact.folder, new_home / "models" / default_artifact.folder.name)
    return new_home


def start_prepare():
    return subprocess.Popen(
        [sys.executable, "-m", "gpt_tasks", "prepare", "--progress", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def folders(home):
    return [path.name for path in (home / "models").iterdir() if path.is_dir()]


def test_two_at_once_build_once(new_home):
    first, second = start_prepare(), start_prepare()
    outputs = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    exported = ["exporting" in errors for _, errors in outputs]
    assert sorted(exported) == [False, True]
    assert any("waiting" in errors for _, errors in outputs)
    assert len(folders(new_home)) == 1


def test_an_export_that_is_interrupted_leaves_no_broken_cache(new_home):
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = start_prepare()
        for line in process.stderr:
            if '"exporting"' in line:
                break
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode != 0
    artifact = prepare()  # builds what isn't there, or takes over what the orphaned child finished
    artifact.verify()
    deadline = time.monotonic() + 30  # after SIGKILL its child may still be at work
    while len(folders(new_home)) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert folders(new_home) == [artifact.folder.name]


def test_a_damaged_cache_is_made_again(prepared_home):
    artifact = prepare(verify=True)
    data = artifact.graph_path("int8").with_name("model_int8.onnx_data")
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(content)
    prepare(verify=True).verify()
    data.write_bytes(content[:-1])
    with pytest.raises(UserError, match="cut off"):  # as `prepare` finds it without reading everything
        Artifact(artifact.folder)


def test_a_finished_cache_may_be_read_only(prepared_home, monkeypatch):
    folder = prepare().folder

    def refuse(*_):
        raise AssertionError("nothing is to be written")

    monkeypatch.setattr("gpt_tasks.backbone.prepare.writable_home", refuse)
    monkeypatch.setattr("gpt_tasks.backbone.prepare.only_one", refuse)
    assert prepare().folder == folder


def test_an_error_in_the_background_reaches_the_page(new_home, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_GGUF", str(new_home / "nowhere"))
    background = BackboneInBackground()
    background.start()
    background.wait()
    with pytest.raises(UserError, match="not a file") as caught:
        background.get()
    assert caught.value.key == "gguf_missing"
    monkeypatch.setenv("GPT_TASKS_MODEL", str(new_home))
    background.start()
    background.wait()
    with pytest.raises(UserError, match="not an exported model"):
        background.get()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "target"
    with whole_folder(target) as part:
        (part / "file").write_text("old")
        assert not target.exists()
    with pytest.raises(RuntimeError), whole_folder(target) as part:
        (part / "file").write_text("new")
        raise RuntimeError
    assert (target / "file").read_text() == "old"
    # A process that was killed: in the middle, and between the two renames.
    (tmp_path / ".target.part-999999999-x").mkdir()
    os.rename(target, tmp_path / ".target.old")
    with pytest.raises(RuntimeError), whole_folder(target):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "file").read_text() == "old"
