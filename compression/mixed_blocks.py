"""int4: every matrix in the blocks that are worth their bytes, under a budget of size and quality.

Matrices move from the cheapest way to store them to better ones, the moves with the largest gain for their cost
first, until the whole model is as good as asked for, or as large as allowed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from compression.block_candidates import Candidate, Candidates, find_candidates, plain_grid, quantized
from compression.block_settings import BlockSettings
from compression.calibration import calibration_ids, held_out
from compression.choice import Choice
from compression.linear import BlockInteger, rounded, stored_bytes
from compression.quantize_blocks import Blocks
from compression.scratch import scratch
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError

_TABLES = ("embedding", "head")
_EIGHT_BITS = rounded(8, block_size=64, head_block_size=32)


class MixedBlocks:
    """The calibration of one model, from which mixes for several budgets are made.

    Args:
        tokenizer: of the same model
        text: for calibration
        done: called now and then, to show that it goes on
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        text: str,
        settings: BlockSettings,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._done = done
        self._ids = calibration_ids(tokenizer, text, model.config)

    @property
    def keeps_source_grid(self) -> bool:
        return self._candidates.on_source_grid

    def choose(
        self, mean_kl: float | None, size: int, head_bits: int, strict: bool = True
    ) -> tuple[Mapping[str, np.ndarray], BlockInteger, Choice]:
        """The cheapest mix within a mean KL, or the best within a size.

        Args:
            mean_kl: to fp32 on the calibration text; None: as good as the size allows
            size: bytes of all matrices and tables
            head_bits: of the embedding and the head
            strict: refuse where even the smallest mix is larger than `size`, instead of taking it

        Raises:
            UserError: the smallest mix is larger, and `strict`.
        """
        tables, candidates = self._tables(head_bits), self._candidates.of
        room = size - sum(stored_bytes(table.grid) for table in tables.values())
        by_time, by_size = (_Order(candidates, price) for price in (lambda way: way.cost, lambda way: way.size))
        if not strict:
            room = max(room, by_size.smallest)
        if by_size.affordable(room) < 0:
            missing = (by_size.smallest - room) / 10**6
            raise UserError(
                f"Even the smallest 4-bit blocks, with {head_bits} bits for the head, are {missing:.2f} MB larger than "
                "what is allowed. Allow a larger size."
            )
        measured_on = self._ids[: held_out(self._ids) or None].tolist()
        with scratch(self._model.weights, measured_on) as graphs:

            def measure(mix: Mapping[str, Candidate]) -> float:
                self._done()
                return graphs.mean_kl(self._candidates.weights, _number_format(mix, tables))

            chosen = None if mean_kl is None else _fastest_within(mean_kl, by_time, room, measure)
            if chosen is None:  # size is what binds: as much quality as it buys
                chosen = by_size.mix(by_size.affordable(room))
            found = measure(chosen)
        ranked = sorted(candidates, key=lambda name: -candidates[name][0].error)
        limit = f"{size / 10**6:.2f} MB" if mean_kl is None else f"a mean KL of {mean_kl} or {size / 10**6:.2f} MB"
        choice = Choice(
            {name: chosen[name].way for name in ranked},
            {name: {way.way: way.error for way in candidates[name]} for name in ranked},
            found,
            f"the moves with the largest gain for their cost first, up to {limit}; head in {head_bits} bits",
        )
        return self._candidates.weights, _number_format(chosen, tables), choice

    @cached_property
    def _candidates(self) -> Candidates:
        return find_candidates(self._model, self._ids, self._settings, self._done)

    def _tables(self, bits: int) -> dict[str, Blocks]:
        """Embedding and head: 8 bits by rounding, or 4 bits as the settings say for the one that the head reads."""
        weights = self._candidates.weights
        tables = {name: weights[f"{name}.weight"] for name in _TABLES if f"{name}.weight" in weights}
        if bits == 8:
            return {name: _EIGHT_BITS(name, table) for name, table in tables.items()}
        *looked_up, head = tables  # a tied embedding is the head
        grid = plain_grid(tables[head], self._settings.symmetric)
        return {
            **{name: _EIGHT_BITS(name, tables[name]) for name in looked_up},
            head: quantized(tables[head], grid, self._candidates.head_moments, self._settings),
        }


def _number_format(mix: Mapping[str, Candidate], tables: Mapping[str, Blocks]) -> BlockInteger:
    def quantize(name: str, weight: np.ndarray) -> Blocks:
        return tables[name] if name in tables else mix[name].blocks

    return BlockInteger(quantize)


def _fastest_within(
    mean_kl: float, order: "_Order", room: int, measure: Callable[[Mapping[str, Candidate]], float]
) -> dict[str, Candidate] | None:
    """With the fewest moves of the order that are good enough; None where those that fit aren't."""
    fewest, most = 0, order.affordable(room)
    if most < 0 or measure(order.mix(most)) > mean_kl:
        return None
    while fewest < most:
        middle = (fewest + most) // 2
        if measure(order.mix(middle)) <= mean_kl:
            most = middle
        else:
            fewest = middle + 1
    return order.mix(most)


class _Order:
    """From the cheapest way to store each matrix to better ones, the largest gain for its price first.

    Only ways on the lower convex hull of price and error are taken: each move of a matrix gains less for its
    price than the one before, so that sorting all moves keeps each matrix's own in order.
    """

    def __init__(self, candidates: Mapping[str, Sequence[Candidate]], price: Callable[[Candidate], int]) -> None:
        self._start: dict[str, Candidate] = {}
        moves: list[tuple[float, str, Candidate, Candidate]] = []
        for name, ways in candidates.items():
            at, *rest = sorted(ways, key=price)
            self._start[name] = at
            while rest:
                gains = [(at.error - better.error) / (price(better) - price(at) + 1) for better in rest]
                best = max(range(len(rest)), key=gains.__getitem__)
                if gains[best] <= 0:
                    break
                moves.append((gains[best], name, at, rest[best]))
                at, rest = rest[best], rest[best + 1 :]
        moves.sort(key=lambda move: -move[0])
        self._moves = [(name, before, after) for _, name, before, after in moves]

    @property
    def smallest(self) -> int:
        """Bytes before any move."""
        return sum(way.size for way in self._start.values())

    def affordable(self, room: int) -> int:
        """How many of the moves so many bytes allow; -1 where they don't even allow the start."""
        room -= self.smallest
        for count, (_, before, after) in enumerate(self._moves):
            if room < 0:
                return count - 1
            room -= after.size - before.size
        return len(self._moves) - (room < 0)

    def mix(self, moves: int) -> dict[str, Candidate]:
        """Joined matrix -> how it is stored after so many moves."""
        return {**self._start, **{name: after for name, _, after in self._moves[:moves]}}
