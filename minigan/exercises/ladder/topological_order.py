"""The topological order: no gradient is passed on before it is complete.

Real graphs come without a tape. Each result knows only its inputs, and backpropagation has to find
an order in which every value stands before its inputs. Consider

    b = a + a        c = b + a

The gradient of a is complete only when both b and c have passed theirs on, so the order is c, b, a.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DEPTH = 5000  # of a chain, more than Python's recursion allows


def topological(output: str, inputs: dict) -> list:
    """All names from which the output is made, each once and before its inputs; the output is
    first.

    inputs  the inputs of each result, a list of names; a name that it lacks has none
    """
    order, visited, stack = [], set(), [(output, False)]
    while stack:
        name, inputs_are_listed = stack.pop()
        if inputs_are_listed:
            order.append(name)
        elif name not in visited:
            visited.add(name)
            stack.append((name, True))
            stack += [(below, False) for below in inputs.get(name, [])]
    return order[::-1]


CASES = {
    "c = b + b, b = a + a": {"c": ["b", "b"], "b": ["a", "a"]},
    "c = b + a, b = a + a": {"c": ["b", "a"], "b": ["a", "a"]},
    "c = a + b, b = a + a": {"c": ["a", "b"], "b": ["a", "a"]},
    "c = a + d, d = b + e, e = b + a, b = a + a": {
        **{"c": ["a", "d"], "d": ["b", "e"], "e": ["b", "a"], "b": ["a", "a"]},
    },
    "c = k4 + k4, each of k4 to k1 made twice of the one below": {
        **{"c": ["k4", "k4"], "k1": ["a", "a"]},
        **{f"k{i}": [f"k{i - 1}"] * 2 for i in (2, 3, 4)},
    },
}


def _names(inputs: dict) -> set:
    """All names of a graph."""
    return set(inputs).union(*inputs.values())


def _walk(order: list, inputs: dict) -> int:
    """The gradient of a when its turn comes, if gradients are passed on in this order through sums."""
    found = dict.fromkeys(_names(inputs), 0) | {"c": 1}
    for name in order[: order.index("a")]:
        for below in inputs.get(name, []):
            found[below] += found[name]
    return found["a"]


def measure(topological: Any) -> Iterator[tuple[str, Any, Any]]:
    for case, inputs in CASES.items():
        order = topological("c", inputs)
        yield f"{case}: the number of names in your order {order}", len(order), len(_names(inputs))
        yield f"{case}: dc/da in your order {order}", _walk(order, inputs), _paths("c", inputs)
    chain = {f"x{i + 1}": [f"x{i}"] for i in range(DEPTH)}
    order = topological(f"x{DEPTH}", chain)
    yield f"the number of names in a chain of {DEPTH} operations", len(order), DEPTH + 1


def _paths(name: str, inputs: dict) -> int:
    """The number of ways down to a; for sums, this is the gradient."""
    return 1 if name == "a" else sum(_paths(below, inputs) for below in inputs[name])


def wrong_with_repetition(output: str, inputs: dict) -> list:
    """Your order holds a name more than once. Remember which names you have visited."""
    return [
        output,
        *(n for below in inputs.get(output, []) for n in wrong_with_repetition(below, inputs)),
    ]


def wrong_inputs_first(output: str, inputs: dict) -> list:
    """Your order begins with the inputs. Reverse it: the output comes first."""
    return topological(output, inputs)[::-1]


def wrong_on_the_way_down(output: str, inputs: dict) -> list:
    """You list a name when you arrive at it, which is too early if another way to it is longer.
    List it after all its inputs, and reverse the list at the end.
    """
    order, stack = [], [output]
    while stack:
        name = stack.pop()
        if name not in order:
            order.append(name)
            stack += inputs.get(name, [])
    return order


def wrong_by_breadth(output: str, inputs: dict) -> list:
    """A breadth-first search sorts by the shortest way from the output; what counts is the longest.
    Use a depth-first search, and list a name after all its inputs.
    """
    order = [output]
    for name in order:
        order += [n for n in dict.fromkeys(inputs.get(name, [])) if n not in order]
    return order


def wrong_by_recursion(output: str, inputs: dict) -> list:
    """Python's stack ends at about 1,000 calls, and graphs are deeper. Keep a stack of your own, a
    list.
    """
    order: list = []

    def visit(name: str) -> None:
        if name not in order:
            for below in inputs.get(name, []):
                visit(below)
            if name not in order:
                order.append(name)

    visit(output)
    return order[::-1]


HINTS = (
    "Search depth first, and list a name only after all its inputs. Then reverse the list.",
    "Keep a stack of pairs (name, whether its inputs are listed). When a name comes up for the first "
    "time, put it back with True, and its inputs on top of it with False.",
)
OFF_LIMITS = ("minigan",)
