"""Trains an extraction and writes its folder: head, adapter where there is one, log, picture, model card."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt_tasks.backbone.architectures import family_of
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model, fingerprint
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_replaceable, require_writable
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.tasks.extraction.annotations import Sentence, read_annotated
from gpt_tasks.tasks.extraction.corpus import Corpus, layers_of, links_of, touching_labels
from gpt_tasks.tasks.extraction.extraction_task import ExtractionSettings, read_extraction, write_extraction
from gpt_tasks.tasks.extraction.head import ExtractionHead, LinkLabels
from gpt_tasks.tasks.extraction.reading import Reading, RowReader
from gpt_tasks.tasks.extraction.words import splits_hyphens
from gpt_tasks.tasks.trained_task import SETTINGS_FILE, WRITTEN_FILES
from gpt_tasks.training.adapter_files import write_adapter
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.extraction_network import ExtractionNetwork
from gpt_tasks.training.extraction_objective import Extraction, ExtractionModel, FeatureExtractor
from gpt_tasks.training.methods import Lora, make_tuned
from gpt_tasks.training.model_card import extraction_card
from gpt_tasks.training.options import MATRICES, TrainingOptions
from gpt_tasks.training.task_run import (
    chosen_modules,
    data_fingerprint,
    load_tokenizer,
    require_same_backbone,
    run_training,
    write_trained,
)

_SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class ExtractionTraining:
    """What to train, and how."""

    task: str
    """entities, relations or events"""
    schema: str
    method: str = "head"
    """head or lora"""
    causal: bool = True
    reading: Reading = "once"
    rank: int = 8
    first_layer: int = 0
    matrices: tuple[str, ...] = MATRICES
    sentences: int | None = None
    """trained on, drawn by the seed; None: all"""
    start: str | None = None
    """The folder of a head that was trained on the backbone as it is, with the same labels. A backbone that is
    corrected from the start follows a head that knows nothing yet (Kumar et al. 2022, Fine-Tuning can Distort
    Pretrained Features)."""
    licence: str = "not stated"
    """of the data"""


def train_extraction(
    model: Model,
    data: Path,
    out: Path,
    training: ExtractionTraining,
    options: TrainingOptions,
    *,
    resume: bool = False,
    report: Report = silent,
) -> dict[str, float]:
    """Trains on `data`'s train.jsonl, chooses on its dev.jsonl, and writes the folder `out`.

    While it runs, the log and the checkpoint are in `<out>.training`; `out` appears when all is done.

    Returns:
        the figures on dev

    Raises:
        UserError: data that can't be read or marks nothing, a folder that can't be written, options that don't fit
            the checkpoint, a start with other labels or on another backbone.
    """
    require_replaceable(out, "a trained task", SETTINGS_FILE, WRITTEN_FILES)
    require_writable(out)
    train, dev = (read_annotated(data / f"{split}.jsonl") for split in ("train", "dev"))
    layers, links, touching = layers_of(train), links_of(train), touching_labels(train)
    _require_known(data, layers, dev)
    start = None if training.start is None else _start(Path(training.start), model, training.reading, layers, links)
    if training.sentences is not None:
        # In their order: sentences of one document stay together.
        chosen = random.Random(options.seed).sample(range(len(train)), min(training.sentences, len(train)))
        train = [train[number] for number in sorted(chosen)]
    torch.manual_seed(options.seed)
    split = splits_hyphens([sentence.tokens for sentence in train])
    reader = RowReader.of(model, load_tokenizer(model).encode, training.reading)
    corpora = [Corpus.read(sentences, reader, split) for sentences in (train, dev)]
    depths = feature_layers(model.config)
    highest = max(depths)
    modules = chosen_modules(model, training.method, training.matrices, training.first_layer, highest)
    decoder = load_decoder(model.weights).to(training_dtype())  # what isn't trained stays so
    del decoder.blocks[highest:]  # nothing depends on them
    tuned = make_tuned(training.method, decoder, modules, causal=training.causal, rank=training.rank)
    extractor = FeatureExtractor(tuned, depths)
    # A backbone that is trained too changes its features: of these only the scale is good for something.
    fixed = training.method == "head"
    features = _read(extractor, corpora[0], "train", report) if fixed or start is None else []
    network = ExtractionNetwork(*_spread(features), layers, links) if start is None else ExtractionNetwork.of(start)
    kept = (features, _read(extractor, corpora[1], "dev", report)) if fixed else ()
    objective = Extraction(ExtractionModel(extractor, network), layers, links, touching, *corpora, *kept)
    figures = run_training(
        objective, model, training, options, data_fingerprint(data), out, resume=resume, report=report
    )
    settings = ExtractionSettings(
        task=training.task,
        schema=training.schema,
        layers=layers,
        touching=touching,
        links=None if links is None else asdict(links),
        split_hyphens=split,
        method=training.method,
        attention="causal" if training.causal else "full",
        reading=training.reading,
        backbone={"name": model.name, "fingerprint": fingerprint(model.weights)},
        dev={**figures, "sentences": len(dev)},
    )

    def write(folder: Path) -> str:
        write_extraction(folder, settings, objective.head())
        if isinstance(tuned, Lora):
            transposed = family_of(model.hugging_face_config).transposed
            write_adapter(folder, tuned, modules, model.name, fan_in_fan_out=transposed)
        return extraction_card(settings, training, options, data.name, len(train), len(dev))

    write_trained(out, {out: write})
    return figures


def _require_known(data: Path, layers: dict[str, list[str]], dev: Sequence[Sentence]) -> None:
    if not layers:
        raise UserError(f"{data / 'train.jsonl'} marks nothing: every tag is O, and there are no triggers.")
    for sentence in dev:
        for span in sentence.spans:
            if span.label not in layers.get(span.layer, ()):
                raise UserError(f"{data / 'dev.jsonl'} has the label {span.label!r}, which train.jsonl hasn't.")


def _start(
    folder: Path, model: Model, reading: Reading, layers: dict[str, list[str]], links: LinkLabels | None
) -> ExtractionHead:
    settings, head = read_extraction(folder)
    if settings.method != "head" or settings.attention != "causal":
        raise UserError(f"{folder} has corrected its backbone. Start from one that was trained with --method head.")
    require_same_backbone(folder, settings.backbone, model)
    if (settings.reading, settings.layers, head.links) != (reading, layers, links):
        raise UserError(f"{folder} has other labels than the data, or is --reading {settings.reading}.")
    return head


def _read(extractor: FeatureExtractor, corpus: Corpus, part: str, report: Report) -> list[Tensor]:
    rows = corpus.all_rows
    return extractor.read(rows, lambda count: report(Progress("encoding", count, len(rows), "rows", part)))


def _spread(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over words: [depth, hidden] each"""
    total = sum(feature.double().sum(dim=0) for feature in features)
    squares = sum(feature.double().square().sum(dim=0) for feature in features)
    words = sum(map(len, features))
    mean = total / words
    deviation = (squares / words - mean.square()).clamp(min=0).sqrt()
    return mean.float(), deviation.float().clamp(min=_SMALLEST_DEVIATION)
