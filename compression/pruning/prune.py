"""Prunes a model by one method, and says what was taken out."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from compression.calibration import FEWEST_TOKENS, MOST_TOKENS, SEQUENCE, calibration_ids
from compression.calibration_text import default_calibration_text
from compression.pruning import width
from compression.pruning.counts import kept_count
from compression.pruning.depth import block_influence, greedy, keep_layers, least_influential
from compression.pruning.options import CALIBRATED, SPARSE, Method, require_options_fit
from compression.pruning.unstructured import prune_unstructured, require_pattern_fits, zeros
from compression.pruning.vocabulary import keep_tokens, used_tokens
from compression.sizes import parameters, zeros_memory_bytes
from gpt_tasks.backbone.architectures import is_uniform
from gpt_tasks.backbone.checkpoint import checkpoint_megabytes, write_checkpoint
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model
from gpt_tasks.home import require_free_space, whole_folder
from gpt_tasks.memory import require_memory
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.task_run import load_tokenizer

RECORD = "pruning.json"
_SEARCH_SEQUENCES = 2  # of the calibration text: every step of a search runs the model once for every block

_ZEROS_SEQUENCE = 1024
"""tokens read together where every weight is fitted to them: what a model reads far on in a text looks different"""


@dataclass(frozen=True)
class Pruning:
    """
    Raises:
        ValueError: a sparsity that isn't between 0 and 1, too few tokens, an option of another method.
    """

    method: Method
    sparsity: float = 0.5
    """the part that goes: of weights, layers, key/value heads or feed-forward neurons"""
    pattern: tuple[int, int] | None = None
    """(2, 4): two of every four weights of a row go, whatever the sparsity; sparse methods only"""
    by_influence: bool = False
    """depth: by the blocks' influence, not by the loss"""
    layers: tuple[int, ...] | None = None
    """depth: keep these, without a search"""
    uniform: bool = False
    """attention, feed-forward: every layer loses the same"""
    refit: bool = True
    """wanda, sparsegpt: solve for what the zeros leave of a matrix once more"""
    tokens: int = MOST_TOKENS
    """of the calibration text, at most; a search for layers takes the first 1,024 of them"""

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity must be more than 0 and less than 1, got {self.sparsity}")
        if self.tokens < FEWEST_TOKENS:
            raise ValueError(f"at least {FEWEST_TOKENS} tokens are needed for calibration, got {self.tokens}")
        require_options_fit(
            self.method,
            pattern=self.pattern is not None,
            layers=self.by_influence or self.layers is not None,
            uniform=self.uniform,
            unrefitted=not self.refit,
        )


def prune(model: Model, pruning: Pruning, text: str | None = None, report: Report = silent) -> tuple[Model, dict]:
    """The pruned model, and what was decided, for the records.

    Args:
        text: for calibration, None: the one that comes with the project; of `vocabulary`, the corpus whose tokens
            stay, None: by the sparsity, the tokens that were merged last, which are the rarest, go

    Raises:
        UserError: a text that is too short, a model that has nothing to take out.
    """
    if pruning.method == "vocabulary":
        pruned, found = _prune_vocabulary(model, pruning, text)
        return _with_facts(model, pruning, pruned, found)
    text = default_calibration_text() if text is None else text
    if pruning.method in SPARSE:
        pruned, found = _prune_weights(model, pruning, text, report)
    elif pruning.method == "depth":
        layers = pruning.layers or _search_depth(model, pruning, text, report)
        pruned, found = keep_layers(model, layers), {"layers_kept": list(layers)}
    else:
        pruned, found = _prune_width(model, pruning, text)
    return _with_facts(model, pruning, pruned, found)


def _with_facts(model: Model, pruning: Pruning, pruned: Model, found: dict) -> tuple[Model, dict]:
    counts = {"parameters": parameters(pruned.config), "parameters_before": parameters(model.config)}
    return pruned, {"base": model.name, **asdict(pruning), **found, **counts}


def write_pruned(pruned: Model, facts: dict, out: Path) -> None:
    """A checkpoint, with what was decided beside it."""
    with whole_folder(out) as folder:
        require_free_space(folder, checkpoint_megabytes(pruned), "write the pruned model")
        write_checkpoint(pruned, folder)
        write_json(folder / RECORD, facts)
        (folder / "README.md").write_text(_card(pruned, facts), "utf-8")


def _card(pruned: Model, facts: dict) -> str:
    before, after = facts["parameters_before"] / 10**6, facts["parameters"] / 10**6
    elsewhere = (
        "transformers loads this folder."
        if is_uniform(pruned.hugging_face_config)
        else "**Only this project loads this folder**: its layers have sizes of their own, which `config.json` lists."
    )
    return f"""# {pruned.name}

{facts["base"]}, pruned by {facts["method"]}: {after:.1f} million weights of {before:.1f}. `{RECORD}` says what was
taken out. {elsewhere}

Recover what was lost with `python -m compression distill`, and export with `python -m compression export`.
"""


def _calibration(model: Model, pruning: Pruning, text: str, sequence: int = SEQUENCE) -> Tensor:
    return calibration_ids(load_tokenizer(model), text, model.config, pruning.tokens, sequence)


def _prune_vocabulary(model: Model, pruning: Pruning, text: str | None) -> tuple[Model, dict]:
    with tempfile.TemporaryDirectory() as folder:
        model.write_tokenizer(Path(folder))
        path = Path(folder) / "tokenizer.json"
        if text is None:
            used = set(range(round(model.config.vocabulary_size * (1 - pruning.sparsity))))
        else:
            used = used_tokens(Tokenizer.from_file(path), text)
        pruned, kept = keep_tokens(model, used, read_json(path))
    return pruned, {"tokens_used": len(used), "tokens_kept": len(kept)}


def _prune_weights(model: Model, pruning: Pruning, text: str, report: Report) -> tuple[Model, dict]:
    if pruning.pattern is not None:
        require_pattern_fits(model, pruning.pattern)
    done = _counted(report, model.config.layers)
    ids = None
    if pruning.method in CALIBRATED:
        ids = _calibration(model, pruning, text, _ZEROS_SEQUENCE)
        purpose = f"prune {model.name} by {ids.numel()} tokens of a text (fewer need less)"
        require_memory(zeros_memory_bytes(model.config, ids.numel()), purpose)
    pruned = prune_unstructured(model, ids, pruning.method, pruning.sparsity, pruning.pattern, pruning.refit, done)
    return pruned, {"zeros": zeros(pruned)}


def _prune_width(model: Model, pruning: Pruning, text: str) -> tuple[Model, dict]:
    heads, neurons = width.importances(load_decoder(model.weights), _calibration(model, pruning, text))
    if pruning.method == "attention":
        kept = width.choose(heads, pruning.sparsity, 1, pruning.uniform)
        return width.keep_heads(model, kept), {"heads_kept": kept, "removed": width.removed(heads, kept)}
    kept = width.choose(neurons, pruning.sparsity, width.NEURONS, pruning.uniform)
    counts = [len(layer) for layer in kept]
    return width.keep_neurons(model, kept), {"neurons_kept": counts, "removed": width.removed(neurons, kept)}


def _search_depth(model: Model, pruning: Pruning, text: str, report: Report) -> Sequence[int]:
    count = kept_count(model.config.layers, pruning.sparsity)
    ids = _calibration(model, pruning, text)
    decoder = load_decoder(model.weights).to(training_dtype())
    if pruning.by_influence:
        return least_influential(block_influence(decoder, ids), count)
    return greedy(decoder, ids[:_SEARCH_SEQUENCES], count, _counted(report, model.config.layers - count))


def _counted(report: Report, layers: int) -> Callable[[], None]:
    """To be called after every layer."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        report(Progress("pruning", done, layers, "layers"))

    return count
