"""Recipes as a user writes them, and a model that changed."""

import shutil
from argparse import ArgumentParser

import yaml
from transformers import AutoModelForCausalLM

from compression.commands import run as command


def written(tmp_path, *steps, **others):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"steps": list(steps), **others}))
    return str(path)


DEPTH, EXPORT = (
    {"prune": {"method": "depth", "sparsity": 0.5, "by_influence": True}},
    {"export": {"precision": ["fp32"]}},
)


def dry_run(recipe, out, *options):
    parser = ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([recipe, "--out", str(out), "--progress", "none", "--dry-run", *options]))


def changed_copy(folder, tmp_path):
    """The model with one linear weight changed, as a LoRA correction changes it: its norms stay."""
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    model = AutoModelForCausalLM.from_pretrained(copy)
    model.model.layers[1].mlp.down_proj.weight.data += 0.5
    model.save_pretrained(copy)
    return str(copy)
