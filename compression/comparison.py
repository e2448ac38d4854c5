"""Variants of the model that lie on this machine, and what each answers to the same prompt."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from compression.job import is_built
from compression.recipe import RECIPES, recipe_names
from compression.results import RESULTS
from gpt_tasks.backbone.artifact import FORMAT, REPORT_NAME, Artifact, read_report
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.home import home

FEWEST, MOST = 2, 4
BUILDABLE = ("pruned-30-recovered-int8", "half-depth-distilled-int8")
"""Recipes whose training comes along, so that their variants can be made on demand in minutes."""
_STATUS = Path("/proc/self/status")


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

    def facts(self) -> dict:
        """What its recipe's run has measured: perplexity ratio, tasks; as far as there is something."""
        if self.recipe is None or not is_built(self.recipe):
            return {}
        results = read_json(home() / "recipes" / self.recipe / RESULTS)
        mine = (row for row in results["variants"] if not row["baseline"] and row["precision"] == self.precision)
        ratio = next((row["ratio"] for row in mine), None)
        scores = {task: score["model"] for task, score in results["tasks"].items()}
        return {"ratio": ratio, "tasks": scores}


def _is_of_this_version(model: Path) -> bool:
    """Whether the engine reads a recipe's model: not where an older version of this project has built it."""
    return (model / REPORT_NAME).is_file() and read_report(model).get("format") == FORMAT


def variants(served: Artifact) -> list[Variant]:
    """The served model's precisions, then those of recipes: built ones, and those that can be built on demand."""
    found = [Variant(served.report["model"], precision, served.folder) for precision in served.precisions]
    names = dict.fromkeys([*recipe_names(), *(path.name for path in sorted((home() / "recipes").glob("own-*/")))])
    for name in names:
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
    ids: list[int] = field(default_factory=list)
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
        UserError: a folder that is damaged, a model without a chat template.
    """
    artifact = Artifact(variant.folder)
    before, begin = _resident_mb(), perf_counter()
    engine, tokenizer = OrtEngine(artifact, variant.precision), artifact.load_tokenizer()
    found = Answer(variant, size_mb=artifact.report["precisions"][variant.precision]["size_mb"])
    found.load_seconds = perf_counter() - begin
    messages = [{"role": "user", "content": prompt}]
    ids = tokenizer.encode_chat(messages) if as_chat else tokenizer.encode(prompt)
    ids = ids[-(engine.config.context_length - tokens) :] or [0]
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
        found.ids.append(token)
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
