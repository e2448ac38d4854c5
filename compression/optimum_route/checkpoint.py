"""A checkpoint that optimum exports: found and checked by its config.json, before anything large is fetched or read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compression.optimum_route.tasks import Task, find_task
from gpt_tasks.backbone.architectures import read_config
from gpt_tasks.backbone.artifact import REPORT_NAME
from gpt_tasks.backbone.hub import fetch, fetch_config, find_repository, is_hub_id
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.safetensors_reader import SafetensorsFolder
from gpt_tasks.backbone.weights import CHECKPOINT_FILES, DEFAULT, open_model
from gpt_tasks.errors import UserError

_PATTERNS = (*CHECKPOINT_FILES, "*.txt", "*.model")  # vocabularies of other tokenizers
_HALF = ("float16", "bfloat16")
_BASE_BYTES = 800 * 10**6
_COPIES = 3  # in fp32: the model in PyTorch, the graph that is written, the session that checks it


@dataclass(frozen=True)
class Checkpoint:
    name: str
    source: dict[str, str]
    """where it came from, for report.json"""
    config: Mapping
    """config.json"""
    task: Task
    weight_bytes: int
    """in fp32"""
    open: Callable[[], Path]
    """fetches what is needed, and gives the folder; raises UserError"""
    remote_code: bool = False
    """code that comes with the checkpoint may run"""

    @property
    def memory_bytes(self) -> int:
        """The most that an export has in memory at a time, roughly."""
        return _BASE_BYTES + _COPIES * self.weight_bytes


def other_checkpoint(
    name: str, revision: str | None, wanted: str | None = None, remote_code: bool = False
) -> Checkpoint | None:
    """The checkpoint of that name where optimum's exporter is for it; None: this project's own graphs are.

    Args:
        revision: of a hub's model; see `open_model`
        wanted: a task in TASKS

    Raises:
        UserError: neither is for it; a model that wants to run code of its own, and may not; see
            `find_repository`.
    """
    folder = Path(name).expanduser()
    if revision is None and (name == DEFAULT or folder.is_file() or (folder / REPORT_NAME).is_file()):
        return _ours(name, wanted)
    if revision is None and folder.is_dir():
        config, repository = read_json(folder / "config.json"), None
    elif revision is not None or is_hub_id(name):
        repository = find_repository(name, revision)
        config = fetch_config(repository)
    else:
        open_model(name)  # says what is wrong with the name
        return None
    if wanted in (None, "text-generation") and _has_own_graph(config, wanted):
        return None
    _require_known_code(name, config, remote_code)
    task = find_task(name, config, wanted)
    if repository is None:
        return Checkpoint(
            folder.resolve().name,
            {"kind": "folder"},
            config,
            task,
            _in_fp32(sum(file.stat().st_size for file in folder.glob("*.safetensors")), config),
            lambda: _checked(folder),
            remote_code,
        )
    return Checkpoint(
        name.split("/")[-1],
        repository.record,
        config,
        task,
        _in_fp32(repository.safetensors_bytes(), config),
        lambda: _checked(fetch(repository, (*_PATTERNS, "*.py") if remote_code else _PATTERNS)),
        remote_code,
    )


def _ours(name: str, wanted: str | None) -> None:
    if wanted not in (None, "text-generation"):
        raise UserError(f"{name} writes text: --task {wanted} isn't for it. Leave --task out.")


def _has_own_graph(config: Mapping, wanted: str | None) -> bool:
    """A Llama-like or GPT-2-like model that writes text, with nothing in its configuration that our graph lacks."""
    try:
        read_config(config)
    except UserError:
        return False
    classes = config.get("architectures") or []
    return wanted is not None or not classes or any("LMHead" in one or "CausalLM" in one for one in classes)


def _require_known_code(name: str, config: Mapping, remote_code: bool) -> None:
    from transformers import CONFIG_MAPPING

    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING and not remote_code:
        raise UserError(
            f"{name} comes with Python code of its own, which would run on this machine when it is opened. Read that "
            "code first; if you trust it, give --trust-remote-code."
        )


def _in_fp32(stored: int, config: Mapping) -> int:
    return stored * (2 if config.get("dtype", config.get("torch_dtype")) in _HALF else 1)


def _checked(folder: Path) -> Path:
    SafetensorsFolder(folder)  # says what is missing, cut off or pickled
    return folder
