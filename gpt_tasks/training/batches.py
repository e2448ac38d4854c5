"""Batches of texts of like length, so that little is padded."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

_POOL = 50  # batches that are sorted together: more padding is saved with more, and less is left to chance


def length_batches(lengths: Sequence[int], tokens: int, shuffle: random.Random | None = None) -> list[list[int]]:
    """The numbers 0 ... n - 1 in batches of at most `tokens` tokens with their padding (or one longer example).

    Args:
        lengths: of each example, in tokens
        shuffle: None gives the shortest first; otherwise examples and batches come in this generator's order,
            and like lengths are gathered among the neighbours only
    """
    order = list(range(len(lengths)))
    if shuffle is None:
        return _cut(sorted(order, key=lengths.__getitem__), lengths, tokens)
    shuffle.shuffle(order)
    mean = max(1, sum(lengths) // max(1, len(lengths)))
    pool = max(1, _POOL * tokens // mean)
    batches = []
    for begin in range(0, len(order), pool):
        batches += _cut(sorted(order[begin : begin + pool], key=lengths.__getitem__), lengths, tokens)
    shuffle.shuffle(batches)
    return batches


def _cut(order: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    for index in order:  # from short to long: the newest is the longest of its batch
        if batches[-1] and (len(batches[-1]) + 1) * lengths[index] > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches if batches[-1] else []


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids, and a mask of 0 (padding, at the end) and 1: [batch, longest] each."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask
