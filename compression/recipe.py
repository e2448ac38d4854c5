"""A recipe: a YAML file that names a chain of compression steps, with typed options.

    name: half-depth
    summary: every second layer, recovered, in int8
    model: default
    steps:
      - prune: {method: depth, sparsity: 0.5}
      - recover: {method: lora, text: texts/, tokens: 500000}
      - export: {precision: [fp32, int8]}
      - check:
      - bench:
      - evaluate:

Unknown keys, values out of range and steps in an impossible order are refused when the recipe is read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from compression.block_settings import METHODS as ROUNDING_METHODS
from compression.distillation.student_sizes import every_of
from compression.precisions import PRECISIONS
from gpt_tasks.errors import UserError

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that come with the project."""
Kind = Literal["checkpoint", "artifact"]
SparseMethod = Literal["magnitude", "wanda", "sparsegpt"]


class Step(BaseModel):
    """One step's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: ClassVar[Kind]
    gives: ClassVar[Kind | None] = None
    """what the steps after it work on; None: what there was"""


class Prune(Step):
    """Takes a part of the model out; see `python -m compression prune --help`."""

    needs, gives = "checkpoint", "checkpoint"

    method: Literal[SparseMethod, "depth", "attention", "feed-forward", "vocabulary"]
    sparsity: float = Field(0.5, gt=0, lt=1, description="the part that goes")
    pattern: Annotated[str, StringConstraints(pattern=r"^\d+:\d+$")] | None = Field(None, description="N:M, as 2:4")
    by_influence: bool = Field(False, description="depth: by the blocks' influence, without a search")
    layers: list[int] | None = Field(None, min_length=1, description="depth: keep these, without a search")
    uniform: bool = Field(False, description="attention, feed-forward: every layer loses the same")
    text: str | None = Field(None, description="a file or folder to decide by; None: the project's own")
    tokens: int = Field(8192, ge=256, description="of the text, at most")

    @model_validator(mode="after")
    def _options_fit(self) -> "Prune":
        if self.pattern is not None:
            if self.method not in get_args(SparseMethod):
                raise ValueError(f"a pattern is for {', '.join(get_args(SparseMethod))}, not for {self.method}")
            gone, size = map(int, self.pattern.split(":"))
            if not 0 < gone < size:
                raise ValueError(
                    f"the pattern {self.pattern} must remove at least one weight of a group, and leave one"
                )
        if (self.by_influence or self.layers is not None) and self.method != "depth":
            raise ValueError(f"choosing layers is for depth, not for {self.method}")
        if self.layers is not None and (self.layers != sorted(set(self.layers)) or self.layers[0] < 0):
            raise ValueError(f"the layers to keep, {self.layers}, must be different ones from 0 on, in order")
        return self


class Teaching(Step):
    """What distill and recover share."""

    needs, gives = "checkpoint", "checkpoint"

    text: str | None = Field(None, description="a text file or a folder of .txt; run's --text stands in for it")
    method: Literal["full", "lora"] = "full"
    rank: int = Field(32, ge=1, description="of LoRA")
    tokens: int | None = Field(None, ge=1, description="of the text, at most")
    window: int = Field(512, ge=2, description="tokens read together")
    epochs: float = Field(1.0, gt=0)
    learning_rate: float | None = Field(None, gt=0, description="None: 3e-4, with LoRA 2e-3")
    tokens_per_batch: int = Field(2048, ge=1)
    predictions: float = Field(0.9, ge=0, description="weight of the KL divergence to the teacher")
    own_text: float = Field(0.1, ge=0, description="weight of the text's own tokens")
    hidden: float = Field(0.0, ge=0, description="weight of hidden states")
    attention: float = Field(0.0, ge=0, description="weight of attention")
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(32, ge=1, description="of the teacher's tokens that are kept")
    reverse: bool = False
    compile: bool = Field(False, description="compile the layers first: steps take about 3/4 of the time")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _learns_something(self) -> "Teaching":
        if self.predictions + self.own_text + self.hidden + self.attention <= 0:
            raise ValueError("at least one of predictions, own_text, hidden and attention must be more than 0")
        return self


class Distill(Teaching):
    """A student that begins as layers of the model, or from nothing, learns from the model."""

    student: str = Field("every-2nd", description="every-2nd (3rd, ...) or fresh")
    layers: int | None = Field(None, ge=1, description="of a fresh student")
    hidden_size: int | None = Field(None, ge=1, description="of a fresh student")
    feed_forward_size: int | None = Field(None, ge=1, description="of a fresh student")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Distill":
        if every_of(self.student) is None:
            if self.layers is None:
                raise ValueError("a fresh student needs a number of layers")
        elif any(size is not None for size in (self.layers, self.hidden_size, self.feed_forward_size)):
            raise ValueError(
                f"layers, hidden_size and feed_forward_size are of a fresh student, not of {self.student}: leave them "
                "out, or say student: fresh"
            )
        return self


class Recover(Teaching):
    """The pruned model learns from the original what it lost."""

    adapter: str | None = Field(
        None,
        description="instead of training: a LoRA folder, or the name of a correction that comes with the project. "
        "A text (run's --text) trains anew",
    )
    start: str | None = Field(
        None, description="with a text, LoRA goes on from this correction, named as adapter; see distill's --start"
    )

    @model_validator(mode="after")
    def _start_fits(self) -> "Recover":
        if self.start is not None and self.method != "lora":
            raise ValueError(f"LoRA alone goes on from a correction, not {self.method}: say method: lora")
        return self


class Export(Step):
    """Writes the ONNX graphs; see `python -m compression export --help`."""

    needs, gives = "checkpoint", "artifact"

    precision: list[Literal[tuple(PRECISIONS)]] = Field(["fp32", "int8"], min_length=1)
    calibration: str | None = Field(None, description="a text to fit to; None: the project's own")
    method: Literal[ROUNDING_METHODS] = ROUNDING_METHODS[0]
    symmetric: bool = False
    size_mb: float | None = Field(None, gt=0, description="of int4's files, at most")
    mean_kl: float | None = Field(None, gt=0, description="of int4 to fp32, at most")


class Quantize(Export):
    """From the fp32 of an export to other precisions, which take its place; see `python -m compression quantize`."""

    needs, gives = "artifact", "artifact"

    precision: list[Literal[tuple(name for name in PRECISIONS if name != "fp32")]] = Field(["int8"], min_length=1)


class Check(Step):
    """Compares fp32 with the checkpoint in PyTorch, and every other precision with fp32. It fails where one is worse
    than its limit."""

    needs = "artifact"


class Bench(Step):
    """Measures speed and memory, next to the original model in the same precisions, in turns."""

    needs = "artifact"

    rounds: int = Field(3, ge=1)


class TaskScore(BaseModel):
    """A task that was trained on this model, and what to score it on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(description="its folder")
    data: str = Field(description="labelled texts")


class Evaluate(Step):
    """Perplexity and sample texts, next to the original model's; scores of tasks where there are some."""

    needs = "artifact"

    text: str | None = Field(None, description="a file; None: one that comes with the project")
    tokens: int = Field(20_480, ge=2, description="of the text, at most")
    window: int = Field(1024, ge=2, description="tokens scored together")
    tasks: list[TaskScore] = []


STEPS: dict[str, type[Step]] = {
    kind.__name__.lower(): kind for kind in (Distill, Prune, Recover, Quantize, Export, Check, Bench, Evaluate)
}


class Recipe(BaseModel):
    """See the module."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]
    summary: str = ""
    model: str = "default"
    steps: list[tuple[str, Step]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _read_steps(cls, content: object) -> object:
        if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
            return content
        return {**content, "steps": [_step(number, entry) for number, entry in enumerate(content["steps"], 1)]}


def _step(number: int, entry: object) -> tuple[str, Step]:
    """{"prune": {options}} or "check" -> its name and its options"""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"step {number} must be one name with its options, such as 'prune: {{method: depth}}'")
    name, options = next(iter(entry.items()))
    if name not in STEPS:
        raise ValueError(f"step {number}: there is no step {name!r}; there are {', '.join(STEPS)}")
    if options is not None and not isinstance(options, dict):
        raise ValueError(f"step {number}, {name}: the options must be names with values, got {options!r}")
    try:
        return name, STEPS[name].model_validate(options or {})
    except ValidationError as error:
        raise ValueError(f"step {number}, {name}: {explained(error, STEPS[name])}") from error


def explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """What is wrong, for people: one sentence a mistake."""
    said = []
    for mistake in error.errors():
        where = ".".join(map(str, mistake["loc"]))
        if mistake["type"] == "extra_forbidden":
            said.append(f"unknown option {where!r} (there are {', '.join(kind.model_fields)})")
        elif mistake["type"] == "missing":
            said.append(f"{where} is missing")
        elif mistake["type"] == "invalid_key":
            # YAML reads a bare no, off, yes or 1 so.
            said.append(f"{mistake['input']!r} is not the name of an option (there are {', '.join(kind.model_fields)})")
        elif mistake["type"] == "value_error" and not where:
            said.append(str(mistake["ctx"]["error"]))
        else:
            said.append(f"{where}: {mistake['msg'].lower()}, got {mistake['input']!r}")
    return "; ".join(said)


def read_recipe(name: str) -> Recipe:
    """
    Args:
        name: of a recipe that comes with the project, or a YAML file

    Raises:
        UserError: no such recipe, not YAML, unknown or wrong options, steps in an impossible order.
    """
    shipped = RECIPES / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"There is no recipe {name}: it is neither a file nor one of those that come with the project "
            f"({', '.join(recipe_names())})."
        )
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must have names with values: name, summary, model, steps.")
    return make_recipe({"name": path.stem, **content}, str(path))


def make_recipe(content: dict, origin: str) -> Recipe:
    """
    Args:
        content: as it stands in a file
        origin: for messages

    Raises:
        UserError: see `read_recipe`.
    """
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{origin}: {explained(error, Recipe)}.") from error
    require_order(recipe)
    return recipe


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def evaluated_on(recipe: Recipe, text: str) -> Recipe:
    """The recipe with another text in its evaluate steps.

    Raises:
        UserError: there is no such step, or no such text.
    """
    if not Path(text).expanduser().is_file():
        raise UserError(f"There is no text {text}.")  # said now, not after the steps before
    if not any(isinstance(step, Evaluate) for _, step in recipe.steps):
        raise UserError(f"The recipe {recipe.name} never evaluates. Add an evaluate step, or leave --evaluate-on out.")
    steps = [
        (name, step.model_copy(update={"text": text}) if isinstance(step, Evaluate) else step)
        for name, step in recipe.steps
    ]
    return recipe.model_copy(update={"steps": steps})


def needs_text(recipe: Recipe) -> bool:
    """Whether it trains on a text that it doesn't name: run's --text."""
    return any(
        isinstance(step, Teaching) and step.text is None and getattr(step, "adapter", None) is None
        for _, step in recipe.steps
    )


def require_order(recipe: Recipe) -> None:
    """
    Raises:
        UserError: a step that can't work on what the ones before it leave.
    """
    for number, (name, step) in enumerate(recipe.steps, 1):
        reason = _misplaced(name, step, recipe.steps[: number - 1])
        if reason is not None:
            raise UserError(f"The recipe {recipe.name}, step {number}, {name}: {reason}")
    if not any(isinstance(step, Export) for _, step in recipe.steps):
        raise UserError(f"The recipe {recipe.name} never exports the model. Add an export step.")


def _misplaced(name: str, step: Step, before: Sequence[tuple[str, Step]]) -> str | None:
    """Why a step can't come after others, and what to do; None where it can."""
    steps = [other for _, other in before]
    exported = any(isinstance(other, Export) for other in steps)
    pruned = {other.method for other in steps if isinstance(other, Prune)}
    if step.needs == "artifact" and not exported:
        return "it works on an exported model. Put export before it."
    if step.needs == "checkpoint" and exported:
        return "it works on weights that aren't exported yet. Put it before export."
    measured = [other_name for other_name, other in before if not other.gives]
    if step.gives and measured:
        return (
            f"{' and '.join(measured)} before it would then have measured another model than the recipe leaves. "
            f"Put {name} first."
        )
    if name in measured:
        return "there is one before it already, whose figures it would replace. Leave one of the two out."
    if isinstance(step, Recover):
        if not pruned and not any(isinstance(other, Distill) for other in steps):
            return "nothing was pruned before it. Put prune before it, or take distill."
        if pruned & set(get_args(SparseMethod)) and (step.method == "lora" or step.adapter is not None):
            return "a correction would fill the zeros of the pruning before it. Take method: full, and no adapter."
    if isinstance(step, Teaching) and "vocabulary" in pruned:
        return "the vocabulary was pruned before it, so that no teacher fits. Prune the vocabulary after it."
    if isinstance(step, Quantize):
        precisions = next(other.precision for other in reversed(steps) if isinstance(other, Export))
        if "fp32" not in precisions:
            return "it starts from fp32, which isn't there. Export fp32 first."
    return None


def options_of(kind: type[Step]) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each option, for the help."""
    return [
        (name, "required" if field.is_required() else str(field.default), field.description or "")
        for name, field in kind.model_fields.items()
    ]
