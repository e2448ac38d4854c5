"""Checks a precision of an exported folder against fp32, with the limit that the precision has to keep."""

from dataclasses import dataclass, field
from pathlib import Path

from compression.graph_sizes import duplicated_embedding
from compression.parity import GREEDY_TOKENS, WINDOW, Parity, Reader, compare
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError

_TEXTS = Path(__file__).resolve().parents[1] / "assets" / "texts"
_FEWEST_TOKENS = 64


@dataclass(frozen=True)
class Check(Parity):
    precision: str = ""
    size_mb: float = 0.0
    ratio_limit: float = 0.0
    passed: bool = False
    warnings: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """For people, on a few lines."""
        return (
            f"{self.precision}: {'passed' if self.passed else 'FAILED'}\n"
            f"    perplexity {self.perplexity:.3f}, of the reference {self.reference_perplexity:.3f}: "
            f"ratio {self.ratio:.4f} (limit {self.ratio_limit})\n"
            f"    same likeliest token {100 * self.top1_agreement:.1f} %, mean KL {self.mean_kl:.4f}, "
            f"greedy text the same for {100 * self.greedy_agreement:.0f} % of 64 tokens\n"
            f"    {self.size_mb} MB"
        )


def default_text() -> str:
    """A text of our own, which no calibration has seen."""
    return (_TEXTS / "check.txt").read_text("utf-8")


def default_prompts() -> list[str]:
    return [line for line in (_TEXTS / "prompts.txt").read_text("utf-8").split("\n") if line]


def check_precision(artifact: Artifact, precision: str, reference: Artifact, text: str) -> Check:
    """
    Args:
        reference: a folder with fp32 of the same model

    Raises:
        UserError: a text that is too short, or a reference with another vocabulary.
    """
    if reference.config.vocabulary_size != artifact.config.vocabulary_size:
        raise UserError(f"{reference.folder} has another vocabulary than {artifact.folder}: it is not the same model.")
    result = _check_against(OrtEngine(reference, "fp32"), artifact, precision, text, default_prompts())
    if reference.report["model"] != artifact.report["model"]:
        other = f"the reference is another model: {reference.report['model']}, not {artifact.report['model']}"
        result.warnings.append(other)
    return result


def check_export(artifact: Artifact, precision: str, model: Model, reference: Artifact | None) -> Check:
    """A precision that was just exported against fp32: the reference's, or the artifact's own, or else, and for
    fp32 itself, the from-scratch decoder in PyTorch."""
    if reference is not None:
        return check_precision(artifact, precision, reference, default_text())
    if precision != "fp32" and "fp32" in artifact.precisions:
        return check_precision(artifact, precision, artifact, default_text())
    from gpt_tasks.backbone.torch_engine import TorchEngine

    # Fewer prompts: PyTorch writes a few words a second.
    return _check_against(TorchEngine(model.weights), artifact, precision, default_text(), default_prompts()[:2])


def _check_against(reference: Reader, artifact: Artifact, precision: str, text: str, prompts: list[str]) -> Check:
    tokenizer, config = artifact.load_tokenizer(), artifact.config
    ids = tokenizer.encode(text)
    if len(ids) < _FEWEST_TOKENS:
        raise UserError(f"The text has {len(ids)} tokens; at least {_FEWEST_TOKENS} are needed to score a model.")
    longest = config.context_length - GREEDY_TOKENS
    beginnings = [tokenizer.encode(prompt)[:longest] for prompt in prompts] if longest > 0 else []
    parity = compare(reference, OrtEngine(artifact, precision), ids, beginnings, min(WINDOW, config.context_length))
    entry, warnings = artifact.report["precisions"][precision], []
    if config.tied_embedding:
        doubled = duplicated_embedding(artifact.graph_path(precision), config.vocabulary_size, config.hidden_size)
        if doubled:
            warnings.append(f"the tied embedding is stored more than once: {', '.join(doubled)}")
    return Check(
        **vars(parity),
        precision=precision,
        size_mb=entry["size_mb"],
        ratio_limit=entry["ratio_limit"],
        passed=parity.ratio <= entry["ratio_limit"],
        warnings=warnings,
    )
