"""Batches of texts of like length, so that little is padded."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from gpt_tasks.backbone.encoder_engine import length_batches

_POOL = 50  # batches that are sorted together: more padding is saved with more, and less is left to chance


def shuffled_batches(lengths: Sequence[int], tokens: int, shuffle: random.Random) -> list[list[int]]:
    """As `length_batches`, in the generator's order: like lengths are gathered among neighbours only."""
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    mean = max(1, sum(lengths) // max(1, len(lengths)))
    pool = max(1, _POOL * tokens // mean)
    batches = []
    for begin in range(0, len(order), pool):
        near = order[begin : begin + pool]
        batches += [[near[i] for i in batch] for batch in length_batches([lengths[n] for n in near], tokens)]
    shuffle.shuffle(batches)
    return batches


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids, and a mask of 0 (padding, at the end) and 1: [batch, longest] each."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask
