"""Runs a recipe step by step in a folder. What is done is not done again.

<out>/steps/1-prune/ ...     what a step leaves: a checkpoint, or an exported folder
<out>/steps/1-prune.json     its options, its key and its figures
<out>/baseline/              the original model, exported, where something is measured against it
<out>/baseline.key           which model that was
<out>/model/                 what the last export or quantize leaves
<out>/model.key              which step that was
<out>/results.json           everything that was measured (see `compression.results`)
<out>/report.html .json .png
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from compression.model_or_artifact import open_model_or_artifact
from compression.recipe import Recipe
from compression.recipe_inputs import input_hashes
from compression.recipe_options import Bench, Evaluate, Export, Quantize, Step, Teaching
from compression.recipe_plan import require_sizes
from compression.recipe_steps import WORK, Place, baseline
from compression.results import RESULTS, collect
from gpt_tasks.backbone.artifact import FORMAT
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.backbone.weights import content_hash
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_writable
from gpt_tasks.progress import Progress, Report, silent

_VERSION = 2
"""Counts up when a step's work changes, so that older results are made again."""


@dataclass
class RecipeRun:
    """One run of a recipe.

    Args:
        text: stands in for the text that distill and recover name
        resume: go on in a folder that has something of this recipe already

    Raises:
        UserError: a file, a folder with something else in it, or with results when `resume` isn't asked for.
    """

    recipe: Recipe
    out: Path
    text: str | None = None
    resume: bool = False
    report: Report = silent
    _key: str = field(default="", init=False)

    def __post_init__(self) -> None:
        steps = self.out / "steps"
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file: it is left alone. Name a folder.")
        if self.out.exists() and any(self.out.iterdir()) and not steps.is_dir():
            raise UserError(f"{self.out} exists and is not a recipe's folder: it is left alone. Name a new one.")
        if steps.is_dir() and not self.resume:
            raise UserError(
                f"{self.out} holds an earlier run. Go on there with --resume (what hasn't changed is not done again), "
                "or name a new folder."
            )
        require_writable(self.out)

    def run(self, command: str, began: Callable[[int, str, bool], None] = lambda *_: None) -> dict:
        """Runs what isn't done yet, writes results.json and returns what is in it.

        Args:
            command: how it was started, for the records
            began: is told a step's number and name, and whether it is skipped

        Raises:
            UserError: an input that isn't there or sizes that don't fit, before the first step; a step that failed:
                those before it are kept.
        """
        inputs = input_hashes(self.recipe, self.text)
        original = open_model_or_artifact(self.recipe.model, self.report)
        require_sizes(self.recipe, original.config)
        (self.out / "steps").mkdir(parents=True, exist_ok=True)
        self._key = _hash(_VERSION, FORMAT, content_hash(original))
        found, made = {}, self.out / "model.key"
        place = Place(original, self._key, self.recipe.model, self.out, self.out, self.text, self.report)
        last = max(n for n, (_, step) in enumerate(self.recipe.steps, 1) if isinstance(step, Export))
        for number, (name, step) in enumerate(self.recipe.steps, 1):
            title = f"{number}-{name}"
            out = self.out / "model" if number == last else self.out / "steps" / title
            self._key = _hash(self._key, name, step.model_dump(mode="json"), inputs[number - 1])
            record = self.out / "steps" / f"{title}.json"
            entry = _done_already(record, self._key, out if step.gives else None)
            if number == last and not _holds(made, self._key):
                entry = None  # an earlier, different version of the recipe left another model there
            began(number, name, entry is not None)
            if entry is None:
                record.unlink(missing_ok=True)
                if number == last:
                    made.unlink(missing_ok=True)
                begun = self.out / "steps" / f"{title}.begun"
                self._begin(step, out, begun)
                begin = time.monotonic()
                result = WORK[type(step)](step, replace(place, out=out, report=self._labelled(number, name)))
                entry = {
                    "key": self._key,
                    "step": name,
                    "options": step.model_dump(mode="json"),
                    "seconds": round(time.monotonic() - begin, 1),
                    "result": result,
                }
                if number == last:
                    made.write_text(self._key)
                write_json(record, entry)
                begun.unlink()
            found[title] = entry
            if isinstance(step, Export) and not isinstance(step, Quantize):
                place = replace(place, checkpoint=place.here, exported=out)
            if step.gives:
                place = replace(place, here=str(out))
        self._remove_stale(found)
        measured = any(isinstance(step, (Bench, Evaluate)) for _, step in self.recipe.steps)
        results = collect(self.recipe, command, found, place.artifact, baseline(place) if measured else None)
        write_json(self.out / RESULTS, results)
        return results

    def _begin(self, step: Step, out: Path, begun: Path) -> None:
        """A training goes on from its checkpoint only if it was begun with the same inputs and options."""
        if isinstance(step, Teaching) and not _holds(begun, self._key):
            from gpt_tasks.training.task_run import training_folder  # needs PyTorch

            shutil.rmtree(training_folder(out), ignore_errors=True)  # there is none as a rule
        begun.write_text(self._key)

    def _labelled(self, number: int, name: str) -> Report:
        label = f"{number}/{len(self.recipe.steps)} {name}"

        def report(progress: Progress) -> None:
            self.report(replace(progress, detail=f"{progress.detail} ({label})".strip()))

        return report

    def _remove_stale(self, found: Mapping[str, dict]) -> None:
        """What an earlier, different version of the recipe left."""
        for path in (self.out / "steps").iterdir():
            title = path.name.removesuffix(path.suffix)
            if title not in found and not path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _done_already(record: Path, key: str, out: Path | None) -> dict | None:
    if not record.is_file() or (out is not None and not out.is_dir()):
        return None
    try:
        entry = read_json(record)
    except UserError:  # cut off by a full disk or a kill: the step runs again
        return None
    return entry if entry.get("key") == key else None


def _holds(file: Path, key: str) -> bool:
    return file.is_file() and file.read_text() == key


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
