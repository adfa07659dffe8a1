"""Windows: stretches of time of an anchor in which something is new, and which of its sessions they reach.

Sessions of one anchor do not overlap. So what lies in a window, and the nearest session on either side of it, are
neighbours without a hole. Between two windows there may be sessions that nobody has read:

    sessions     [S1] [S2]  ·  ·  ·  [S8] [S9]        ·: not read
    windows         └e1┘              └e2┘
                      └── pause ─────┘                longer than a session's gap: what is cut here stays apart,
                                                      whatever is between. No longer: the two windows become one.

A session with claims may end otherwise than it did, and so may those after it that no gap separates from it (see
transforms.activity.session_reach). So a window continues while the session after it has claims.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from transforms.arrays.grouped import EARLIEST, LATEST, Flags, Longs, changes, flags, longs
from transforms.arrays.integers import is_in


@dataclass(frozen=True)
class Windows:
    """One row: an anchor, and the instants that its window begins and ends with (microseconds), both in it. Sorted by
    anchor and `low`; windows of one anchor do not overlap."""

    anchor: Longs
    low: Longs
    high: Longs

    def __len__(self) -> int:
        return len(self.anchor)

    def select(self, rows: np.ndarray) -> Windows:
        """The windows of these rows."""
        return Windows(self.anchor[rows], self.low[rows], self.high[rows])

    def with_next(self, is_one: Flags) -> Windows:
        """The windows, each of the marked ones as one with the window after it."""
        begins = np.ones(len(self), np.bool_)
        begins[1:] = ~is_one[:-1]
        starts = np.flatnonzero(begins)
        ends = np.append(starts, len(self))[1:] - 1
        return Windows(self.anchor[starts], self.low[starts], self.high[ends])


def windows_around(events: pa.Table, gap_us: int) -> Windows:
    """Where the events are: those of an anchor that follow each other within the gap are in one window."""
    anchor, at = longs(events["anchor_node_id"]), longs(events["event_at"])
    order = np.lexsort((at, anchor))
    anchor, at = anchor[order], at[order]
    each = Windows(anchor, at, at)
    is_one = np.zeros(len(at), np.bool_)
    is_one[:-1] = ~changes(anchor)[1:] & (at[1:] - at[:-1] <= gap_us)
    return each.with_next(is_one)


def reached(
    session_keys: pa.Table, in_part: Longs, windows: Windows, gap_us: int
) -> tuple[Flags, Windows | None]:
    """Which of the sessions `session_keys` (anchor_node_id, start_at, end_at, claims) are in a window or nearest to
    one, and all those of anchors that were not read `in_part`; and the windows that have to be read
    instead, if these do not hold all that counts."""
    anchor, start, end = (longs(session_keys[c]) for c in ("anchor_node_id", "start_at", "end_at"))
    keep = ~is_in(anchor, in_part)
    rows = np.flatnonzero(~keep)
    if not len(rows):
        return keep, None
    anchor, start, end = anchor[rows], start[rows], end[rows]
    has_claims = flags(session_keys["claims"].is_valid())[rows]
    window = _last_window(windows, anchor, start)
    here, following = np.maximum(window, 0), np.minimum(window + 1, len(windows) - 1)
    is_inside = (window >= 0) & (windows.anchor[here] == anchor) & (start <= windows.high[here])
    follows = ~is_inside & (window >= 0) & (windows.anchor[here] == anchor)
    precedes = ~is_inside & (window + 1 < len(windows)) & (windows.anchor[following] == anchor)

    # The start of the first session that follows each window, and of the last that precedes it.
    first, last = np.full(len(windows), LATEST), np.full(len(windows), EARLIEST)
    np.minimum.at(first, here[follows], start[follows])
    np.maximum.at(last, following[precedes], start[precedes])
    is_next = follows & (start == first[here])
    is_previous = precedes & (start == last[following])
    keep[rows] = is_inside | is_next | is_previous

    left_at = np.full(len(windows), EARLIEST)
    np.maximum.at(left_at, here[is_next], end[is_next])
    is_pair = windows.anchor[1:] == windows.anchor[:-1]
    is_hole = is_pair & (first[:-1] < last[1:])
    is_hole[is_hole] = last[1:][is_hole] - left_at[:-1][is_hole] <= gap_us

    block_end, goes_on = windows.high.copy(), np.zeros(len(windows), np.bool_)
    np.maximum.at(block_end, here[is_inside], end[is_inside])
    np.maximum.at(block_end, following[is_previous], end[is_previous])
    goes_on[here[is_next & has_claims]] = True
    goes_on[goes_on] = first[goes_on] - block_end[goes_on] <= gap_us
    if not is_hole.any() and not goes_on.any():
        return keep, None
    wider = windows.high.copy()
    # Twice as long each time, so that a long row of such sessions does not take a step each.
    wider[goes_on] = first[goes_on] + np.maximum(gap_us, windows.high - windows.low)[goes_on]
    is_hole |= is_pair & (wider[:-1] >= windows.low[1:])
    return keep, replace(windows, high=wider).with_next(np.append(is_hole, False))


def _last_window(windows: Windows, anchor: Longs, at: Longs) -> Longs:
    """For each (anchor, instant) the last window that begins at or before it, -1 where there is none."""
    count = len(windows)
    order = np.lexsort(
        (
            np.arange(count + len(at)) >= count,  # a window before what begins with it
            np.concatenate((windows.low, at)),
            np.concatenate((windows.anchor, anchor)),
        )
    )
    seen = np.cumsum(order < count) - 1
    found = np.empty(len(at), np.int64)
    is_row = order >= count
    found[order[is_row] - count] = seen[is_row]
    return found
