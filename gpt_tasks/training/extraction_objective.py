"""Spans and links as an objective: cross-entropy of the words' tags and of the pairs' relations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.backbone.encoder_engine import length_batches
from gpt_tasks.tasks.extraction.annotations import Sentence, Span, bio_tags
from gpt_tasks.tasks.extraction.corpus import Corpus, main_figure, predict, score
from gpt_tasks.tasks.extraction.head import ExtractionHead, LinkLabels, tag_names
from gpt_tasks.tasks.extraction.reading import Row, shared_ids
from gpt_tasks.training.batches import pad
from gpt_tasks.training.extraction_network import ExtractionNetwork
from gpt_tasks.training.methods import TunedDecoder
from gpt_tasks.training.objectives import percent

_NOMINALS = 0.2
"""The weight of the spans where a corpus marks only the pair in question: they are wanted, for texts that nobody
marked, but the relation is what the corpus is for."""
_FEATURE_TOKENS = 4096
_IGNORED = -100


class FeatureExtractor(nn.Module):
    """The backbone's side: rows to the words' features, as `finding.read_features` gives them.

    Args:
        depths: see `feature_layers`
    """

    def __init__(self, tuned: TunedDecoder, depths: Sequence[int]) -> None:
        super().__init__()
        self.tuned, self.depths = tuned, depths

    def forward(self, rows: Sequence[Row]) -> list[Tensor]:
        """Of each row, [words, depth, hidden]"""
        layers: list[Tensor] = []
        groups = shared_ids(rows)
        self.tuned.encode(*pad([rows[group[0]].ids for group in groups]), layer_outputs=layers)
        features: list[Tensor] = [torch.empty(0)] * len(rows)
        for place, group in enumerate(groups):
            for index in group:
                ends = list(rows[index].ends)
                words = [layers[depth - 1][place, ends] for depth in self.depths]
                features[index] = torch.stack(words, dim=1).float()
        return features

    def read(self, rows: Sequence[Row], done: Callable[[int], None] = lambda count: None) -> list[Tensor]:
        """As `forward`, of any number of rows, without a gradient, in fp16 (the residual stream has numbers that
        fp16 hasn't: they are cut, as the head cuts them).

        Args:
            done: told how many rows are read
        """
        features: list[Tensor] = [torch.empty(0)] * len(rows)
        most = torch.finfo(torch.float16).max
        count = 0
        with torch.inference_mode():
            groups = shared_ids(rows)
            for batch in length_batches([len(rows[group[0]].ids) for group in groups], _FEATURE_TOKENS):
                numbers = [index for group in batch for index in groups[group]]
                for index, feature in zip(numbers, self([rows[index] for index in numbers]), strict=True):
                    features[index] = feature.clamp(-most, most).half()
                count += len(numbers)
                done(count)
        return features


class ExtractionModel(nn.Module):
    """What is trained: a head, and the backbone's correction where there is one."""

    def __init__(self, extractor: FeatureExtractor, network: ExtractionNetwork) -> None:
        super().__init__()
        self.extractor, self.network = extractor, network


class Extraction:
    """
    Args:
        touching: see `ExtractionHead`
        train_features, dev_features: of every row; None where the backbone is trained too, so that they change
    """

    figure = "f1 (%)"
    shown = staticmethod(percent)

    def __init__(
        self,
        model: ExtractionModel,
        layers: Mapping[str, Sequence[str]],
        links: LinkLabels | None,
        touching: Mapping[str, Sequence[str]],
        train: Corpus,
        dev: Corpus,
        train_features: Sequence[Tensor] | None = None,
        dev_features: Sequence[Tensor] | None = None,
    ) -> None:
        self.model = model
        self._layers, self._links, self._touching = layers, links, touching
        self._dev = dev
        self._given = train.sentences[0].given
        self._rows = train.all_rows
        self._parts = [
            _part(sentence, row) for sentence, rows in zip(train.sentences, train.rows, strict=True) for row in rows
        ]
        self._targets = [_tag_numbers(part, layers) for part in self._parts]
        self._features, self._dev_features = train_features, dev_features
        # An example is what is read at once, and costs its tokens; where nothing is read, a row, and its words.
        if train_features is None:
            self._examples = shared_ids(self._rows)
            self.lengths = [len(self._rows[group[0]].ids) for group in self._examples]
        else:
            self._examples = [[number] for number in range(len(self._rows))]
            self.lengths = [len(row.ends) for row in self._rows]

    def loss(self, examples: Sequence[int]) -> Tensor:
        rows = [row for example in examples for row in self._examples[example]]
        if self._features is None:
            features = self.model.extractor([self._rows[row] for row in rows])
        else:
            features = [self._features[row].float() for row in rows]
        lengths = torch.tensor([len(words) for words in features])
        y = self.model.network(nn.utils.rnn.pad_sequence(features, batch_first=True), lengths)
        loss = y.new_zeros(())
        for name, layer in self.model.network.layers.items():
            targets = [torch.tensor(self._targets[row][name]) for row in rows]
            wanted = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=_IGNORED)
            part = functional.cross_entropy(layer(y).flatten(0, 1), wanted.flatten(), ignore_index=_IGNORED)
            loss = loss + (_NOMINALS * part if self._given else part)
        if self._links is not None:
            loss = loss + self._link_loss(y, rows)
        return loss

    def _link_loss(self, y: Tensor, rows: Sequence[int]) -> Tensor:
        pairs, sentences, labels = [], [], []
        for place, row in enumerate(rows):
            for pair, label in self._pairs(self._parts[row]):
                pairs.append(pair)
                sentences.append(place)
                labels.append(label)
        if not pairs:
            return y.new_zeros(())
        logits = self.model.network.links(y, sentences, pairs)
        return functional.cross_entropy(logits, torch.tensor(labels))

    def _pairs(self, sentence: Sentence) -> list[tuple[tuple[Span, Span], int]]:
        """Those that are linked, and all that aren't: with a few of these only, a head finds too many links."""
        numbers = {label: number for number, label in enumerate(self._links.labels)}
        linked = [((link.head, link.tail), numbers[link.label]) for link in sentence.links]
        if sentence.given:
            return linked
        known = {pair for pair, _ in linked}
        return [*linked, *((pair, 0) for pair in self._links.pairs(sentence.spans) if pair not in known)]

    def head(self) -> ExtractionHead:
        """What is trained so far, as it is served."""
        return ExtractionHead(self._layers, self._links, self.model.network.tensors(), self._touching)

    def evaluate(self) -> dict[str, float]:
        """Figures on dev, by the code that serves; `score` is the corpus' own main figure."""
        features = self._dev_features or self.model.extractor.read(self._dev.all_rows)
        arrays = [feature.float().numpy() for feature in features]
        head = self.head()
        figures = score(head, predict(head, self._dev, arrays), self._dev.sentences)
        figures = {name: value for name, value in figures.items() if not isinstance(value, dict)}
        return {"score": main_figure(figures, self._given), **figures}


def _part(sentence: Sentence, row: Row) -> Sentence:
    """What of a sentence lies in a row, in the row's words."""
    begin, end = row.first, row.first + len(row.ends)
    moved = {
        span: replace(span, start=span.start - begin, end=span.end - begin)
        for span in sentence.spans
        if begin <= span.start and span.end <= end
    }
    links = [
        replace(link, head=moved[link.head], tail=moved[link.tail])
        for link in sentence.links
        if link.head in moved and link.tail in moved
    ]
    return Sentence(sentence.tokens[begin:end], tuple(moved.values()), tuple(links), sentence.given)


def _tag_numbers(sentence: Sentence, layers: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Of each layer, the words' tags by number."""
    found = {}
    for name, labels in layers.items():
        numbers = {tag: number for number, tag in enumerate(tag_names(labels))}
        spans = [span for span in sentence.spans if span.layer == name]
        found[name] = [numbers[tag] for tag in bio_tags(spans, len(sentence.tokens))]
    return found
