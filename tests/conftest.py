"""Fixtures that many tests share. The default model is prepared once, in $GPT_TASKS_HOME or the user's cache."""

import pytest
import torch

from compression.export import Request, export
from compression.precisions import PRECISIONS
from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.backbone.weights import open_model
from tests import tiny_models

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def default_artifact():
    return prepare()


@pytest.fixture(scope="session")
def default_backbone(default_artifact):
    return Backbone(default_artifact)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A function: variant -> a checkpoint folder as transformers writes it, and the reference model."""
    made = {}

    def make(variant):
        if variant not in made:
            folder = tmp_path_factory.mktemp(variant)
            made[variant] = folder, tiny_models.save(variant, folder)
        return made[variant]

    return make


@pytest.fixture(scope="session")
def tiny_artifact(tiny_folder, tmp_path_factory):
    """A function: variant -> its artifact in every precision, and the reference model."""
    made = {}

    def make(variant):
        if variant not in made:
            folder, reference = tiny_folder(variant)
            out = tmp_path_factory.mktemp("exported") / variant
            made[variant] = (
                export(open_model(str(folder)), out, Request(list(PRECISIONS))),
                reference,
            )
        return made[variant]

    return make
