"""Quality of exported models next to the original: perplexity, sample texts, scores of tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compression.check import default_prompts, default_text
from compression.parity import CHUNK, Reader, greedy, log_probabilities
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.text_files import read_text_file
from gpt_tasks.tasks.trained_task import SETTINGS_FILE, SHIPPED, load_task
from gpt_tasks.tasks.windows import WindowReader

_SAMPLES = 3
_SAMPLE_TOKENS = 48
_FEWEST_TOKENS = 64
_CHARACTERS_A_TOKEN = 12  # more than there are on average


def evaluate_artifacts(
    artifacts: Mapping[str, Artifact],
    text: str | None,
    window: int,
    tokens: int,
    tasks: Sequence[tuple[Path, Path]] = (),
    report: Report = silent,
) -> dict[str, dict]:
    """Of each artifact and each of its precisions: perplexity, ratio and samples; with tasks, `tasks` too.

    Args:
        artifacts: `baseline` is the original, `model` what was made of it
        text: None: the one that comes with the project
        tokens: of the text, at most, by the baseline's tokenizer
        tasks: folders of tasks that were trained on `model`, and labelled texts

    Raises:
        UserError: a text that is too short.
    """
    original = artifacts["baseline"]
    window = min([window, *(artifact.config.context_length for artifact in artifacts.values())])
    text, scored = _cut(original.load_tokenizer(), default_text() if text is None else text, tokens, window)
    steps = [(name, precision) for name, artifact in artifacts.items() for precision in artifact.precisions]
    found: dict[str, dict] = {name: {} for name in artifacts}
    for done, (name, precision) in enumerate(steps):
        report(Progress("measuring", done, len(steps), "models", precision))
        artifact = artifacts[name]
        engine, tokenizer = OrtEngine(artifact, precision), artifact.load_tokenizer()
        ids = tokenizer.encode(text)
        # Per token of the original: a model that spells the text in more tokens has no advantage from it.
        perplexity = float(np.exp(surprise(engine, ids, window) / scored))
        found[name][precision] = {
            "perplexity": perplexity,
            "samples": [
                _sample(engine, tokenizer, prompt, artifact.end_ids) for prompt in default_prompts()[:_SAMPLES]
            ],
        }
    reference = found["baseline"]["fp32"]["perplexity"]
    for rows in found.values():
        for row in rows.values():
            row["ratio"] = row["perplexity"] / reference
    scores = {name: _task_scores(artifacts, folder, data) for folder, data in tasks for name in [_task_name(folder)]}
    return {**found, "tasks": scores, "text_tokens": scored, "window": window}


def surprise(model: Reader, ids: Sequence[int], window: int) -> float:
    """Σ -log p(token | those before it in its window); the first token of a window isn't scored. In nats."""
    total = 0.0
    for begin in range(0, len(ids), window):
        piece = list(ids[begin : begin + window])
        cache = model.new_cache()
        for at in range(0, len(piece) - 1, CHUNK):
            read = piece[at : min(at + CHUNK, len(piece) - 1)]
            logits = log_probabilities(model.read(read, cache, all_logits=True))
            total -= float(logits[np.arange(len(read)), piece[at + 1 : at + 1 + len(read)]].sum())
    return total


def _cut(tokenizer: Tokenizer, text: str, tokens: int, window: int) -> tuple[str, int]:
    """The text's beginning, and how many of its tokens are scored: all but the first of each window."""
    text = tokenizer.decode(tokenizer.encode(text[: _CHARACTERS_A_TOKEN * tokens])[:tokens])
    ids = tokenizer.encode(text)
    if len(ids) < _FEWEST_TOKENS:
        raise UserError(f"The text has {len(ids)} tokens; at least {_FEWEST_TOKENS} are needed to score a model.")
    return text, len(ids) - -(-len(ids) // window)


def _sample(engine: OrtEngine, tokenizer: Tokenizer, prompt: str, end_ids: frozenset[int]) -> dict:
    """A prompt and what the model writes after it, always taking the likeliest token."""
    room = max(1, min(_SAMPLE_TOKENS, engine.config.context_length // 2))
    ids = tokenizer.encode(prompt)[: engine.config.context_length - room]
    written = greedy(engine, ids, room)
    end = next((i for i, token in enumerate(written) if token in end_ids), len(written))
    return {"prompt": prompt, "text": tokenizer.decode(written[:end])}


def _task_name(folder: Path) -> str:
    return folder.resolve().name


def _task_scores(artifacts: Mapping[str, Artifact], folder: Path, data: Path) -> dict[str, float]:
    """Accuracy of the task on `model`, and of the shipped task of that name on the baseline, where it is the shipped
    one's backbone and the labels are the same."""
    from gpt_tasks.tasks.evaluation import evaluate_classifier  # scikit-learn: only this needs it

    rows = read_text_file(data, labelled=True)
    folders = {"model": folder}
    shipped = SHIPPED / _task_name(folder)
    if (shipped / SETTINGS_FILE).is_file() and _comparable(shipped, folder, artifacts["baseline"]):
        folders["baseline"] = shipped
    found = {}
    for name, task in folders.items():
        artifact = artifacts[name]
        engine = EncoderEngine(artifact)
        classifier = TextClassifier(
            engine, WindowReader.of(artifact, artifact.load_tokenizer()), load_task(task, artifact)
        )
        found[name] = evaluate_classifier(classifier, rows)["accuracy"]
    return found


def _comparable(shipped: Path, folder: Path, baseline: Artifact) -> bool:
    theirs, ours = read_json(shipped / SETTINGS_FILE), read_json(folder / SETTINGS_FILE)
    same_backbone = theirs["backbone"]["fingerprint"] == baseline.fingerprint
    return same_backbone and sorted(theirs["labels"]) == sorted(ours.get("labels", []))
