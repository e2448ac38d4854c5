"""Variants of the model that lie on this machine, and what each answers to the same prompt."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from compression.job import is_built
from compression.recipe import RECIPES, recipe_names
from compression.results import RESULTS
from gpt_tasks.backbone.artifact import FORMAT, REPORT_NAME, Artifact, read_report
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.safetensors_reader import SINGLE_NAME
from gpt_tasks.backbone.weights import DEFAULT
from gpt_tasks.home import home
from gpt_tasks.tasks.prompt import too_long
from gpt_tasks.tasks.trained_task import SETTINGS_FILE, SHIPPED

FEWEST, MOST = 2, 4
BUILDABLE = ("pruned-30-recovered-int8", "half-depth-distilled-int8")
"""Recipes whose training comes along, so that their variants can be made on demand in minutes."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Facts:
    """What is known of a variant's quality."""

    ratio: float | None = None
    """of its perplexity to the original's in fp32"""
    tasks: Mapping[str, float] = field(default_factory=dict)
    """accuracies, from a recipe's run"""
    trained: Mapping[str, float] = field(default_factory=dict)
    """accuracies on dev of the tasks that come with the project, as their training left them"""


@dataclass(frozen=True)
class Variant:
    """One precision of a model in some folder."""

    name: str
    precision: str
    folder: Path | None
    """None: a recipe's, which isn't built yet"""
    recipe: str | None = None

    @property
    def key(self) -> str:
        return f"{self.name}: {self.precision}"

    def facts(self) -> Facts:
        """What was measured of it, and where nothing was, nothing."""
        if self.recipe is None:
            return _served_facts(Artifact(self.folder), self.precision)
        if not is_built(self.recipe):
            return Facts()
        results = read_json(home() / "recipes" / self.recipe / RESULTS)
        found = _measured(results, self.precision, baseline=False)
        if Path(results["model"]).is_relative_to(home() / "recipes"):  # held against another variant
            return replace(found, ratio=None)
        return found


def _measured(results: dict, precision: str, baseline: bool) -> Facts:
    """By a recipe's run: of what it made, or of the original."""
    mine = (row for row in results["variants"] if row["baseline"] == baseline and row["precision"] == precision)
    scores = {task: score.get("baseline" if baseline else "model") for task, score in results["tasks"].items()}
    known = {task: score for task, score in scores.items() if score is not None}
    return Facts(next((row["ratio"] for row in mine), None), known)


def _served_facts(artifact: Artifact, precision: str) -> Facts:
    """From the checks of its export, and of the default model from the recipes that were held against it."""
    checked = artifact.report.get("checks", {}).get(precision, {}).get("ratio")
    if artifact.report["source"]["kind"] != DEFAULT:
        return Facts(checked)
    runs = (read_json(home() / "recipes" / name / RESULTS) for name in _run_names() if is_built(name))
    found = [_measured(results, precision, baseline=True) for results in runs if results["model"] == DEFAULT]
    ratios = (facts.ratio for facts in found if facts.ratio is not None)
    tasks = {task: score for facts in found for task, score in facts.tasks.items()}
    return Facts(next(ratios, None) if checked is None else checked, tasks, _trained_scores(artifact))


def _trained_scores(artifact: Artifact) -> dict[str, float]:
    found = {}
    for path in sorted(SHIPPED.glob(f"*/{SETTINGS_FILE}")):
        settings = read_json(path)
        if settings["backbone"]["fingerprint"] == artifact.fingerprint and settings.get("dev"):
            found[settings["task"]] = settings["dev"]["accuracy"]
    return found


def _run_names() -> list[str]:
    """Recipes that may have run on this machine: those that come with the project, then visitors' own."""
    own = (path.name for path in sorted((home() / "recipes").glob("own-*/")))
    return list(dict.fromkeys([*recipe_names(), *own]))


def compressible() -> dict[str, str]:
    """The recipes that have made another model on this machine -> its checkpoint. (Those that only quantize have none:
    their weights are those that they began with, and quantized numbers are not quantized again.)"""
    found = {}
    for name in filter(is_built, _run_names()):
        # A folder that is being written begins with a dot.
        checkpoints = [file.parent for file in (home() / "recipes" / name / "steps").glob(f"[0-9]*/{SINGLE_NAME}")]
        if checkpoints:
            found[name] = str(max(checkpoints, key=lambda step: int(step.name.split("-")[0])))
    return found


def _is_of_this_version(model: Path) -> bool:
    """Whether the engine reads a recipe's model: not where an older version of this project has built it."""
    return (model / REPORT_NAME).is_file() and read_report(model).get("format") == FORMAT


def variants(served: Artifact) -> list[Variant]:
    """The served model's precisions, then those of recipes: built ones, and those that can be built on demand."""
    found = [Variant(served.report["model"], precision, served.folder) for precision in served.precisions]
    for name in _run_names():
        model = home() / "recipes" / name / "model"
        if is_built(name) and _is_of_this_version(model):
            found += [Variant(name, precision, model, name) for precision in Artifact(model).precisions]
        elif name in BUILDABLE and (RECIPES / f"{name}.yaml").is_file():
            found.append(Variant(name, "int8", None, name))
    return found


@dataclass
class Answer:
    """What a variant has written so far."""

    variant: Variant
    pieces: list[str] = field(default_factory=list)
    """one a token"""
    size_mb: float = 0.0
    memory_mb: float = 0.0
    """what loading it added to the process, in 10^6 bytes"""
    load_seconds: float = 0.0
    time_to_first_token_ms: float = 0.0
    tokens_per_second: float = 0.0

    def first_difference(self, other: "Answer") -> int | None:
        """The first token that isn't the other's; None while they agree."""
        pairs = zip(self.pieces, other.pieces, strict=False)
        return next((index for index, (mine, theirs) in enumerate(pairs) if mine != theirs), None)


def answer(variant: Variant, prompt: str, tokens: int, as_chat: bool) -> Iterator[Answer]:
    """Loads a variant, and yields its answer token by token, always the likeliest one. It is unloaded at the end.

    Args:
        as_chat: the prompt is a message to an assistant

    Raises:
        UserError: a folder that is damaged, a model without a chat template, a prompt longer than its context.
    """
    artifact = Artifact(variant.folder)
    before, begin = _resident_mb(), perf_counter()
    engine, tokenizer = OrtEngine(artifact, variant.precision), artifact.load_tokenizer()
    found = Answer(variant, size_mb=artifact.report["precisions"][variant.precision]["size_mb"])
    found.load_seconds = perf_counter() - begin
    messages = [{"role": "user", "content": prompt}]
    ids = tokenizer.encode_chat(messages) if as_chat else tokenizer.encode(prompt)
    room = engine.config.context_length - tokens
    if len(ids) > room:
        raise too_long("The prompt", len(prompt), room, key="prompt_too_long")
    ids = ids or [0]
    cache, decoder = engine.new_cache(), tokenizer.stream_decoder()
    begin = first = perf_counter()
    logits = engine.read(ids, cache)
    for count in range(1, tokens + 1):
        token = int(logits[-1].argmax())
        if count == 1:
            first = perf_counter()
            found.time_to_first_token_ms = 1000 * (first - begin)
        else:
            found.tokens_per_second = (count - 1) / (perf_counter() - first)
        if token in artifact.end_ids:
            break
        found.pieces.append(decoder.push(token))
        found.memory_mb = max(found.memory_mb, _resident_mb() - before)
        yield found
        if count < tokens:
            logits = engine.read([token], cache)
    found.pieces.append(decoder.finish())
    yield found


def _resident_mb() -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", _STATUS.read_text())[1]) * 1024 / 10**6


def by_key(keys: Sequence[str], there: Sequence[Variant]) -> list[Variant]:
    """Those that were chosen, in the order of choice."""
    known = {variant.key: variant for variant in there}
    return [known[key] for key in keys if key in known]
