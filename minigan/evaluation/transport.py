"""The earth mover's distance, exactly: the least mean distance over all ways of pairing two sets."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .checks import as_rows


def earth_mover_1d(a: np.ndarray, b: np.ndarray) -> float:
    """The integral of |P(t) - Q(t)| dt, where P and Q are the fractions of a and b up to t.

    a, b  (N,) and (M,) numbers; computed in float64

    For N = M this is mean |sorted a - sorted b|: the smallest goes to the smallest (Villani 2003,
    "Topics in Optimal Transportation", theorem 2.18 and remark 2.19). Time is O((N + M) log(N + M)).
    """
    sides = []
    for key, given in (("a", a), ("b", b)):
        if np.ndim(given) != 1:
            raise UserError(f"earth_mover_1d: {key} must be numbers (N,), not {np.shape(given)}")
        (column,) = as_rows("earth_mover_1d", **{key: np.reshape(given, (-1, 1))})
        sides.append(np.sort(column[:, 0]))
    places = np.sort(np.concatenate(sides))
    below = [np.searchsorted(side, places[:-1], "right") / len(side) for side in sides]
    return float((np.abs(below[0] - below[1]) * np.diff(places)).sum())


def earth_mover(a: np.ndarray, b: np.ndarray) -> float:
    """The least mean of |a_i - b_s(i)| over all pairings s: the distance W of Wasserstein GANs.

    a, b  (N, d), equally many rows in each; computed in float64

    See Arjovsky, Chintala & Bottou 2017, equation 1. It is meant for points in the plane: in many
    dimensions even two sets of one distribution are far apart. Time is O(N^3), memory 8 N^2 bytes.
    """
    a, b = as_rows("earth_mover", a=a, b=b)
    if len(a) != len(b):
        raise UserError(
            f"earth_mover: a has {len(a)} rows but b has {len(b)}, and each needs a partner; "
            "give sets of one size"
        )
    cost = np.stack([np.linalg.norm(x - b, axis=1) for x in a])
    return float(cost[np.arange(len(a)), _assignment(cost)].mean())


def _assignment(cost: np.ndarray) -> np.ndarray:
    """The columns (N,) that the rows of cost (N, N) are paired with at the least total cost.

    Rows are added one by one. A new row takes a column from another row, which takes one from a third,
    and so on to a column that was free; of all such chains the cheapest is found as a shortest path.
    Prices of rows and columns keep cost - row_price - column_price at 0 on the pairs and nowhere below
    0, which proves the pairing cheapest (Kuhn 1955; as a path search: Jonker & Volgenant 1987).
    """
    n = len(cost)
    row_price, column_price = np.zeros(n), np.zeros(n)
    column_of, row_of = np.full(n, -1), np.full(n, -1)
    for new in range(n):
        length, via = np.full(n, np.inf), np.full(n, -1)  # of the shortest path to each column
        seen = np.zeros(n, bool)
        row, least = new, 0.0
        while row >= 0:
            through = least + cost[row] - row_price[row] - column_price
            shorter = ~seen & (through < length)
            length[shorter], via[shorter] = through[shorter], row
            column = int(np.where(seen, np.inf, length).argmin())
            least, row = length[column], row_of[column]
            seen[column] = True
        row_price[new] += least
        row_price[row_of[seen & (row_of >= 0)]] += least - length[seen & (row_of >= 0)]
        column_price[seen] -= least - length[seen]
        while column >= 0:  # along the path back, each row takes the column that it led to
            row = via[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of
