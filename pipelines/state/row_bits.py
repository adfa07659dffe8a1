"""RowBits: marks rows of a column in a fifth of a byte each, and ranks each among the marked ones."""

from __future__ import annotations

import numpy as np

from transforms.arrays.integers import Flags, Longs

_WORD = 64


class RowBits:
    """A bit for each row, and for every 64 rows how many marked ones are before them."""

    def __init__(self, is_marked: Flags) -> None:
        padded = np.zeros(-(-len(is_marked) // _WORD) * _WORD, np.bool_)
        padded[: len(is_marked)] = is_marked
        self._words = np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64, copy=False)
        marked = np.bitwise_count(self._words)
        self._before = (np.cumsum(marked) - marked).astype(np.uint32)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the marks take."""
        return self._words.nbytes + self._before.nbytes

    def at(self, rows: np.ndarray) -> tuple[Flags, Longs]:
        """For every row whether it is marked; for each of those that are, how many marked ones are before it."""
        rows = rows.astype(np.int64, copy=False)
        words, bit = self._words[rows // _WORD], np.uint64(1) << (rows % _WORD).astype(np.uint64)
        is_marked = (words & bit) != 0
        before = np.bitwise_count(words[is_marked] & (bit[is_marked] - np.uint64(1)))
        return is_marked, self._before[rows[is_marked] // _WORD].astype(np.int64) + before
