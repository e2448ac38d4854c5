"""The network that `tasks.extraction.head` describes and serves, as it is trained."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.tasks.extraction.annotations import Span
from gpt_tasks.tasks.extraction.head import DISTANCES, FARTHEST, ExtractionHead, LinkLabels, distance_kind, span_kinds

_WIDTH, _LSTM, _LINK = 256, 200, 200
_DROPOUT = 0.4


class ExtractionNetwork(nn.Module):
    """
    Args:
        center, deviation: of the backbone's features, [depth, hidden]
        layers: name -> labels of its spans
    """

    def __init__(
        self, center: Tensor, deviation: Tensor, layers: Mapping[str, Sequence[str]], links: LinkLabels | None
    ) -> None:
        super().__init__()
        depth, hidden = center.shape
        self.register_buffer("center", center)
        self.register_buffer("deviation", deviation)
        self.project = nn.Linear(depth * hidden, _WIDTH)
        self.lstm = nn.LSTM(_WIDTH, _LSTM, bidirectional=True, batch_first=True)
        self.layers = nn.ModuleDict(
            {name: nn.Linear(2 * _LSTM, 1 + 2 * len(labels)) for name, labels in layers.items()}
        )
        self.links = None if links is None else LinkNetwork(2 * _LSTM, span_kinds(layers), len(links.labels))
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """[sentences, longest, depth, hidden] and their words -> y [sentences, longest, 2 · LSTM]"""
        scaled = ((features - self.center) / self.deviation).clamp(-FARTHEST, FARTHEST)
        x = functional.gelu(self.project(self.dropout(scaled.flatten(2))), approximate="tanh")
        packed = nn.utils.rnn.pack_padded_sequence(self.dropout(x), lengths, batch_first=True, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.dropout(y)

    @classmethod
    def of(cls, head: ExtractionHead) -> "ExtractionNetwork":
        """One that goes on from what a head has learned."""
        given = {name: torch.from_numpy(value) for name, value in head.tensors.items()}
        for way in ("", "_reverse"):
            bias = given.pop(f"lstm.bias_l0{way}")
            given |= {f"lstm.bias_ih_l0{way}": bias, f"lstm.bias_hh_l0{way}": torch.zeros_like(bias)}
        network = cls(given["center"], given["deviation"], head.layers, head.links)
        network.load_state_dict(given)
        return network

    def tensors(self) -> dict[str, np.ndarray]:
        """As `ExtractionHead` takes them: the two biases of an LSTM's gate are one."""
        found = {name: value.detach() for name, value in self.state_dict().items()}
        for way in ("", "_reverse"):
            found[f"lstm.bias_l0{way}"] = found.pop(f"lstm.bias_ih_l0{way}") + found.pop(f"lstm.bias_hh_l0{way}")
        return {name: value.numpy() for name, value in found.items()}


class LinkNetwork(nn.Module):
    """How two spans are linked."""

    def __init__(self, width: int, kinds: Mapping[tuple[str, str], int], labels: int) -> None:
        super().__init__()
        self._kinds = kinds
        self.head = nn.Linear(width, _LINK)
        self.tail = nn.Linear(width, _LINK, bias=False)
        self.between = nn.Linear(width, _LINK, bias=False)
        self.head_kind, self.tail_kind = nn.Embedding(len(kinds), _LINK), nn.Embedding(len(kinds), _LINK)
        self.distance = nn.Embedding(DISTANCES, _LINK)
        for embedding in (self.head_kind, self.tail_kind, self.distance):
            nn.init.normal_(embedding.weight, std=0.02)
        self.dropout = nn.Dropout(_DROPOUT)
        self.out = nn.Linear(_LINK, labels)

    def forward(self, y: Tensor, sentences: Sequence[int], pairs: Sequence[tuple[Span, Span]]) -> Tensor:
        """
        Args:
            y: [sentences, longest, width]
            sentences: which one each pair is in

        Returns:
            [pairs, labels]
        """
        words = y[torch.tensor(sentences)]  # [pairs, longest, width]
        heads, tails = zip(*pairs, strict=True)
        ordered = [sorted(pair) for pair in pairs]
        gap = _inside([(first.end, second.start) for first, second in ordered], y.shape[1])  # [pairs, longest]
        between = words.masked_fill(~gap[:, :, None], -torch.inf).amax(dim=1)
        between = torch.where(gap.any(dim=1, keepdim=True), between, 0.0)
        distances = [distance_kind((head.start, head.end), (tail.start, tail.end)) for head, tail in pairs]
        inner = (
            self.head(_mean(words, heads))
            + self.tail(_mean(words, tails))
            + self.between(between)
            + self.head_kind(self._kinds_of(heads))
            + self.tail_kind(self._kinds_of(tails))
            + self.distance(torch.tensor(distances))
        )
        return self.out(self.dropout(inner.relu()))

    def _kinds_of(self, spans: Sequence[Span]) -> Tensor:
        return torch.tensor([self._kinds[span.layer, span.label] for span in spans])


def _inside(places: Sequence[tuple[int, int]], longest: int) -> Tensor:
    """[places, longest] of bool"""
    begin, end = torch.tensor(places).T
    order = torch.arange(longest)
    return (order >= begin[:, None]) & (order < end[:, None])


def _mean(words: Tensor, spans: Sequence[Span]) -> Tensor:
    """[spans, longest, width], each span's sentence -> [spans, width]"""
    weights = _inside([(span.start, span.end) for span in spans], words.shape[1]).float()
    return torch.einsum("pw,pwh->ph", weights / weights.sum(dim=1, keepdim=True), words)
