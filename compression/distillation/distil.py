"""Distils a teacher into a student on text, and writes the student's folder."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from compression.derived_model import derived
from compression.distillation.objective import Matching, TextDistillation
from compression.distillation.student_card import student_card
from compression.distillation.teacher import teacher_predictions
from compression.distillation.windows import cut_windows
from compression.pruning.sparse_model import is_matrix_of_a_block, is_sparse, require_dense
from compression.sizes import parameters
from compression.variants import shipped_correction, with_correction
from gpt_tasks.backbone.adapter import read_pairs
from gpt_tasks.backbone.architectures import adapter_modules, family_of, is_uniform
from gpt_tasks.backbone.checkpoint import checkpoint_megabytes, write_checkpoint
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model, content_hash
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_free_space, require_writable
from gpt_tasks.progress import Report, silent
from gpt_tasks.training.adapter_files import go_on_from, lora_matrices, write_adapter
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.methods import Lora, make_tuned
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.task_run import load_tokenizer, run_training, training_folder, write_trained
from gpt_tasks.training.trainer import CHECKPOINT_COPIES, CHECKPOINT_NAME
from gpt_tasks.transformer.shapes import tensor_shape

ADAPTER_FOLDER = "adapter"
_LEARNING_RATES = {"full": 3e-4, "lora": 2e-3}


@dataclass(frozen=True)
class Distillation:
    """What the student learns, and how."""

    method: str = "full"
    """full: every weight moves; lora: a low-rank correction, which is also written alone"""
    rank: int = 32
    """of LoRA; alpha is twice that"""
    window: int = 512
    """tokens read together"""
    tokens: int | None = None
    """of the text, at most; None: all"""
    matching: Matching = field(default_factory=Matching)
    start: str | None = None
    """a correction that LoRA goes on from: one that comes with the project, or a folder"""
    written: bool = False
    """the text is of the teacher's own writing (see `compression.distillation.sequence_level`)"""


def teaching_options(
    method: str,
    epochs: float,
    learning_rate: float | None,
    tokens_per_batch: int,
    seed: int,
    evaluations_per_epoch: float = 8,
    accumulation: int = 1,
    compiled: bool = False,
) -> TrainingOptions:
    """
    Args:
        learning_rate: None: what suits the method

    Raises:
        ValueError: see `TrainingOptions`.
    """
    return TrainingOptions(
        epochs=epochs,
        learning_rate=_LEARNING_RATES[method] if learning_rate is None else learning_rate,
        tokens_per_batch=tokens_per_batch,
        accumulation=accumulation,
        evaluations_per_epoch=evaluations_per_epoch,
        patience=10**6,  # a perplexity that rests for a while falls again with the learning rate
        seed=seed,
        compiled=compiled,
    )


def distil(
    teacher: Model,
    student: Model,
    texts: Sequence[str],
    out: Path,
    distillation: Distillation,
    options: TrainingOptions,
    *,
    resume: bool = False,
    report: Report = silent,
) -> dict[str, float]:
    """Writes the trained student to the folder `out`: a checkpoint as transformers saves it; with LoRA, the correction
    alone too, in `adapter/`.

    While it runs, the log and the checkpoint are in `<out>.training`; `out` appears when all is done.

    Returns:
        the figures on windows of the text that were held out

    Raises:
        UserError: a student that can't learn from this teacher, a correction that doesn't fit, too little text, options
            that don't fit the checkpoint, a full disk.
    """
    require_writable(out)
    require_teachable(teacher, student, distillation)
    room = _megabytes(student, distillation, out)
    require_free_space(next(folder for folder in out.resolve().parents if folder.exists()), room, "train the student")
    torch.manual_seed(options.seed)
    windows = cut_windows(load_tokenizer(teacher), texts, distillation.window, distillation.tokens, options.seed)
    matching = distillation.matching
    modules = adapter_modules(student.hugging_face_config)
    decoder = load_decoder(student.weights)
    if distillation.method == "lora":
        decoder = decoder.to(training_dtype())  # what isn't trained
    tuned = make_tuned(distillation.method, decoder, modules, rank=distillation.rank)
    if distillation.method == "full":
        _keep_zeros(decoder)
    if distillation.start is not None:
        correction = shipped_correction(distillation.start)
        go_on_from(tuned, modules, *read_pairs(correction, student.hugging_face_config), correction)
    predictions = None
    if matching.predictions:
        predictions = teacher_predictions(
            teacher, windows.train, matching.top_k, matching.temperature, compiled=options.compiled, report=report
        )
    inside = load_decoder(teacher.weights).to(training_dtype()) if matching.looks_inside else None
    objective = TextDistillation(tuned, windows.train, windows.dev, predictions, matching, inside)
    data = hashlib.sha256(f"{windows.fingerprint} {content_hash(teacher)}".encode())
    figures = run_training(
        objective, student, distillation, options, data.hexdigest(), out, resume=resume, report=report
    )

    def write(folder: Path) -> str:
        if isinstance(tuned, Lora):
            tensors = with_correction(student, lora_matrices(tuned, modules), tuned.alpha / tuned.rank)
        else:
            tensors = _tensors(tuned.decoder, student)
        write_checkpoint(derived(student, "distilled", student.config, tensors), folder)
        if isinstance(tuned, Lora):
            adapter = folder / ADAPTER_FOLDER
            adapter.mkdir()
            transposed = family_of(student.hugging_face_config).transposed
            write_adapter(adapter, tuned, modules, student.name, fan_in_fan_out=transposed)
        return student_card(teacher, student, distillation, options, figures, is_uniform(student.hugging_face_config))

    write_trained(out, {out: write})
    return figures


def require_teachable(teacher: Model, student: Model, distillation: Distillation) -> None:
    """
    Raises:
        UserError: another vocabulary, a student that isn't smaller, windows or attention that don't fit, more
            layers than there are hidden states to match, a sparse student for LoRA, a correction without it.
    """
    ours, theirs = student.config, teacher.config
    if ours.vocabulary_size != theirs.vocabulary_size or _vocabulary(teacher) != _vocabulary(student):
        raise UserError(
            f"{student.name} has another vocabulary than {teacher.name} ({ours.vocabulary_size} and "
            f"{theirs.vocabulary_size} tokens): a teacher's predictions mean nothing to it. Take a student with the "
            "teacher's own tokenizer."
        )
    if parameters(ours) > parameters(theirs):
        raise UserError(
            f"{student.name} has {parameters(ours) / 10**6:.1f} million weights, more than its teacher's "
            f"{parameters(theirs) / 10**6:.1f}. Swap the two."
        )
    context = min(ours.context_length, theirs.context_length)
    if not 2 <= distillation.window <= context:
        raise UserError(f"Windows of {distillation.window} tokens don't fit: give --window from 2 to {context}.")
    last = ours.of_layer(ours.layers - 1), theirs.of_layer(theirs.layers - 1)
    if distillation.matching.attention and len({(c.query_heads, c.key_value_heads) for c in last}) > 1:
        raise UserError(
            "The last layers have different numbers of heads, so their attention can't be matched. Match hidden "
            "states instead, or predictions alone."
        )
    if distillation.matching.hidden and ours.layers > theirs.layers:
        raise UserError(
            f"{student.name} has {ours.layers} layers, more than its teacher's {theirs.layers}: there is no hidden "
            "state for each of them to match. Take a student with fewer, or match predictions alone."
        )
    if distillation.method == "lora":
        require_dense(student)
    elif distillation.start is not None:
        raise UserError("Only LoRA goes on from a correction: give --method lora.")


def _megabytes(student: Model, distillation: Distillation, out: Path) -> int:
    """What is written in all: two checkpoints of the run, since a new one stands beside the one before, and then the
    student beside one of them. What is there from an earlier run makes room for a new one."""
    trained = 4 * _trained_weights(student, distillation) // 10**6  # in fp32
    before = training_folder(out) / CHECKPOINT_NAME
    there = before.stat().st_size // 10**6 if before.is_file() else 0
    written = CHECKPOINT_COPIES * trained
    return written + max(written, checkpoint_megabytes(student)) - there


def _trained_weights(student: Model, distillation: Distillation) -> int:
    if distillation.method == "full":
        return parameters(student.config)
    shapes = (
        [tensor_shape(student.config, f"{name}.weight") for name in ours]
        for ours in adapter_modules(student.hugging_face_config).values()
    )
    return distillation.rank * sum(parts[0][1] + sum(rows for rows, _ in parts) for parts in shapes)


def _vocabulary(model: Model) -> dict[str, int]:
    """Token -> its number."""
    return load_tokenizer(model).vocabulary()


def _keep_zeros(decoder: torch.nn.Module) -> None:
    """What was pruned away stays away: a weight that is zero gets no gradient, so that AdamW leaves it where it is."""
    for name, parameter in decoder.named_parameters():
        if is_matrix_of_a_block(name) and is_sparse(parameter.detach().numpy()):
            kept = parameter.detach() != 0
            parameter.register_hook(lambda gradient, kept=kept: gradient * kept)


def _tensors(decoder: torch.nn.Module, student: Model) -> dict:
    parameters_ = dict(decoder.named_parameters())
    return {name: parameters_[name].detach().float().numpy() for name in student.weights}
