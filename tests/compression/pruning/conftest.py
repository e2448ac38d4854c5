import pytest

from gpt_tasks.backbone.weights import open_model


@pytest.fixture
def model(tiny_folder):
    return open_model(str(tiny_folder("llama")[0]))
