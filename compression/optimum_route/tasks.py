"""What a checkpoint was made for, in optimum's words, and what kind of check that asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gpt_tasks.errors import UserError

Kind = Literal["causal", "masked", "classifier", "sequence_to_sequence", "features"]


@dataclass(frozen=True)
class Task:
    name: str
    """optimum's"""
    kind: Kind
    transformers_class: str
    """that loads a checkpoint for it"""
    mapping: str
    """transformers' table of model types and the classes that are this task's"""
    cached: bool = False
    """the graph takes and gives keys and values of the tokens before"""

    @property
    def optimum_class(self) -> str:
        if self.transformers_class == "AutoModel":
            return "ORTModelForFeatureExtraction"
        return self.transformers_class.replace("Auto", "ORT")

    @property
    def export_name(self) -> str:
        return f"{self.name}-with-past" if self.cached else self.name


# In this order: BART's one class stands in the tables of two tasks.
TASKS = {
    task.name: task
    for task in (
        Task("text-generation", "causal", "AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", cached=True),
        Task(
            "text2text-generation",
            "sequence_to_sequence",
            "AutoModelForSeq2SeqLM",
            "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
            cached=True,
        ),
        Task("fill-mask", "masked", "AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
        Task(
            "text-classification",
            "classifier",
            "AutoModelForSequenceClassification",
            "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        ),
        Task(
            "token-classification",
            "classifier",
            "AutoModelForTokenClassification",
            "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        ),
        Task("feature-extraction", "features", "AutoModel", "MODEL_MAPPING_NAMES"),
    )
}


def find_task(name: str, config: Mapping, wanted: str | None = None) -> Task:
    """The task of a checkpoint, by its config.json: nothing else of it is needed.

    Args:
        name: of the model, for messages
        wanted: a name in TASKS; None: what the class in "architectures" was made for

    Raises:
        UserError: an architecture that optimum's exporter doesn't know, or not for this task; a task that can't be
            told.
    """
    supported = _supported_tasks(config.get("model_type"))
    if supported is None:
        raise UserError(
            f"{name} is a model of the type {config.get('model_type')!r}, which neither this project's graphs nor "
            "optimum's exporter know. Llama, Mistral, Qwen2 and GPT-2 are exported here; optimum's documentation "
            "lists the others."
        )
    task = TASKS[wanted] if wanted is not None else _task_of_class(name, config)
    if task.export_name not in supported:
        ours = [known.name for known in TASKS.values() if known.export_name in supported]
        raise UserError(
            f"{name} ({config['model_type']}) can't be exported for {task.name}. "
            + (f"Give one of these as --task: {', '.join(ours)}." if ours else "No text task of it can be exported.")
        )
    return task


def _task_of_class(name: str, config: Mapping) -> Task:
    for task in TASKS.values():
        if is_made_for(config, task):
            return task
    raise UserError(
        f"What {name} is for can't be told: its config.json names "
        f"{', '.join(config.get('architectures') or ()) or 'no class'} "
        f"under 'architectures'. Give --task: {', '.join(TASKS)}."
    )


def is_made_for(config: Mapping, task: Task) -> bool:
    """Whether the class that a checkpoint's config.json names is one of the task's."""
    from transformers.models.auto import modeling_auto

    named = getattr(modeling_auto, task.mapping).get(config["model_type"], ())
    named = (named,) if isinstance(named, str) else named
    return any(found in named for found in config.get("architectures") or ())


def _supported_tasks(model_type: object) -> set[str] | None:
    """optimum's names of the tasks that a type of model can be exported for; None: it isn't known."""
    import optimum.exporters.onnx.model_configs  # noqa: F401  (fills the table that is read below)
    from optimum.exporters.tasks import TasksManager

    if not isinstance(model_type, str):
        return None
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(model_type, "onnx", library_name="transformers")
    except KeyError:
        return None
    return set(tasks)
