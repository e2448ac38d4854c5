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

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from compression.recipe_options import STEPS, Evaluate, Export, Step, Teaching, explained
from compression.recipe_order import misplaced
from gpt_tasks.errors import UserError

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that come with the project."""


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


def require_training(recipe: Recipe) -> None:
    """
    Raises:
        UserError: no step learns from a text.
    """
    if not any(isinstance(step, Teaching) for _, step in recipe.steps):
        raise UserError(f"The recipe {recipe.name} never trains. Add a distill or recover step, or leave --text out.")


def require_order(recipe: Recipe) -> None:
    """
    Raises:
        UserError: a step that can't work on what the ones before it leave; nothing is exported.
    """
    reason = misplaced(recipe.steps)
    if reason is not None:
        raise UserError(f"The recipe {recipe.name}, {reason}")
    if not any(isinstance(step, Export) for _, step in recipe.steps):
        raise UserError(f"The recipe {recipe.name} never exports the model. Add an export step.")
