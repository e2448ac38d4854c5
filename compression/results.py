"""results.json: everything that a recipe's run has measured, and on what."""

import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from compression.recipe import Recipe
from compression.sizes import parameters
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.threads import available_cores
from gpt_tasks.errors import UserError

RESULTS = "results.json"
_SPEEDS = (
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "time_to_first_token_ms",
    "load_seconds",
    "peak_memory_mb",
)


def collect(
    recipe: Recipe, command: str, entries: Mapping[str, dict], model: Artifact, baseline: Artifact | None
) -> dict:
    """
    Args:
        entries: of the steps, as `RecipeRun.run` gives them
        baseline: the original model, where something was measured against it

    Returns:
        recipe, summary, model, command, hardware, versions; steps: title, options, seconds; variants: one for each
        precision of the original and of the new model, with what was measured of it; checks; tasks; text: what the
        perplexity is of (name, None: the project's own; sha256, window, tokens)
    """
    found = {entry["step"]: entry["result"] for entry in entries.values()}
    artifacts = {"model": model} if baseline is None else {"baseline": baseline, "model": model}
    return {
        "recipe": recipe.name,
        "summary": recipe.summary,
        "model": recipe.model,
        "command": command,
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **_versions()},
        "steps": [{"title": title, **{k: e[k] for k in ("options", "seconds")}} for title, e in entries.items()],
        "variants": [row for name, artifact in artifacts.items() for row in _rows(recipe.name, name, artifact, found)],
        "checks": found.get("check", {}),
        "tasks": found.get("evaluate", {}).get("tasks", {}),
        "text": found.get("evaluate", {}).get("text"),
    }


def _rows(recipe: str, name: str, artifact: Artifact, found: Mapping[str, dict]) -> Iterator[dict]:
    from compression.graph_sizes import sizes_by_kind  # brings onnx, which the page, to read results, needn't have

    for precision in artifact.precisions:
        speed = found.get("bench", {}).get(name, {}).get(precision, {})
        quality = found.get("evaluate", {}).get(name, {}).get(precision, {})
        yield {
            "name": "original" if name == "baseline" else recipe,
            "baseline": name == "baseline",
            "precision": precision,
            "parameters": parameters(artifact.config),
            "layers": artifact.config.layers,
            "size_mb": artifact.report["precisions"][precision]["size_mb"],
            "sizes_by_kind": sizes_by_kind(artifact.graph_path(precision)),
            "perplexity": quality.get("perplexity"),
            "ratio": quality.get("ratio"),
            "samples": quality.get("samples", []),
            **{key: speed.get(key) for key in _SPEEDS},
        }


def hardware() -> dict[str, str | int]:
    """processor, cores, memory_gb (10^9 bytes)"""
    processors = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", processors.read_text()) if processors.is_file() else None
    memory = Path("/proc/meminfo")
    total = re.search(r"MemTotal:\s*(\d+)", memory.read_text()) if memory.is_file() else None
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "cores": available_cores(),
        "memory_gb": round(int(total[1]) * 1024 / 10**9) if total else 0,
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy", "tokenizers")}


def read_results(path: Path) -> dict:
    """
    Args:
        path: a recipe's folder, or its results.json

    Returns:
        what `collect` gave, and the folder

    Raises:
        UserError: there is none.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path} has no {RESULTS}. Make one with: python -m compression run RECIPE --out {path}")
    results = read_json(file)
    if "variants" not in results or "recipe" not in results:
        raise UserError(f"{file} is not what a recipe's run writes.")
    return {**results, "folder": str(file.parent.resolve())}
