"""Random test cases: Hypothesis draws the structure, and a generator that it seeds draws the values.

CASES has an entry for every operation, and some for functions composed of them. Each draws a Case: a
function of Tensors, float64 inputs for it, and its forward from the formula (see `reference.py`). Every
draw is legal by construction, so nothing is filtered. Values stay away from kinks, where central
differences are meaningless.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import reference as ref
from hypothesis import strategies as st

import minigan.functional as F
from minigan import backend, conv, image_norm, normalize, ops, pieces, resizing, tensor
from minigan.backend.reference import Window, moments
from minigan.nn import Parameter
from minigan.tensor import Tensor, grad, raw
from minigan.walk import topological

GAP = 0.1  # the least distance from a kink: 10,000 times gradcheck's step


class Case(NamedTuple):
    fn: Callable[..., Tensor]
    inputs: list[Tensor]
    reference: Callable[..., np.ndarray]


CASES: dict[str, st.SearchStrategy[Case]] = {}


def case(name):
    """Register a builder `build(draw, rng) -> Case` under the name of the operation it exercises."""

    def register(build):
        @st.composite
        def strategy(draw):
            return Case(*build(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))))

        CASES[name] = strategy()
        return build

    return register


# -- values -------------------------------------------------------------------------------------


def leaf(rng, shape, gap=0.0, positive=False):
    """A leaf of random normal values whose absolute values are at least `gap`."""
    x = np.asarray(rng.standard_normal(shape))
    x = np.abs(x) + gap if positive else x + np.copysign(gap, x)
    return tensor(x, requires_grad=True)


def steps(rng, shape, offset=0.0):
    """A leaf of multiples of 2 GAP plus the offset, so that leaves with other offsets differ."""
    return tensor(2 * GAP * rng.integers(-5, 6, shape) + offset, requires_grad=True)


def graph(y):
    """The names of all operations that made y."""
    return {t.op.name for t in topological([y]) if t.op}


# -- infinite upstream gradients ----------------------------------------------------------------


def _normalised(x):
    """relu(x), computed by a batch norm in evaluation mode followed by a ReLU."""
    mean, var = (tensor(np.full(x.shape[1], v, x.dtype)).to(x.device) for v in (0, 1))
    return normalize.batch_norm_activated(x, mean, var, None, None, False, 0.1, 0.0, slope=0.0)


CUTS = {  # each is max(x, 0)
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.0),
    "batch_norm": _normalised,
    "clamp": lambda x: F.clamp(x, min=0),
    "clamp from above": lambda x: -F.clamp(-x, max=0),
    "maximum": lambda x: F.maximum(x, 0.0),
    "maximum, swapped": lambda x: F.maximum(0.0, x),
    "maximum of tensors": lambda x: F.maximum(x, x.detach() * 0.0),
    "where": lambda x: F.where(x > 0, x, 0.0),
    "where not": lambda x: F.where(x <= 0, 0.0, x),
}
STEEP = {  # functions with infinite slope at 0: their first and second derivative at 4
    "sqrt": (lambda x: x.sqrt(), 1 / 4, -1 / 32),
    "log": (lambda x: x.log(), 1 / 4, -1 / 16),
    "reciprocal": (lambda x: 1.0 / x, -1 / 16, 1 / 32),
    "power": (lambda x: x**-0.5, -1 / 16, 3 / 128),
}


def cut_off(cut, steep, device="cpu"):
    """What PyTorch gives for steep(cut(x)) at -1 and 4, and what minigan gives: the first derivatives
    by the rules and by the fused kernels, and the second derivatives."""
    fn, first, second = STEEP[steep]
    x = tensor([[-1.0, 4.0], [4.0, -1.0]], device=device).requires_grad_()
    y = fn(CUTS[cut](x))
    (by_rules,) = grad(y, x, tensor([[1.0, 1.0], [1.0, 1.0]], device=device), create_graph=True)
    found = [by_rules, *grad(y.sum(), x, retain_graph=True), *grad(by_rules.sum(), x)]
    expected = [[[0, d], [d, 0]] for d in (first, first, second)]
    return [g.numpy().tolist() for g in found], expected


# -- structure ----------------------------------------------------------------------------------

sizes = st.integers(1, 3)
shapes = st.lists(sizes, max_size=3).map(tuple)  # () included, a 0-dimensional tensor
some_shapes = st.lists(sizes, min_size=1, max_size=3).map(tuple)


@st.composite
def broadcastable(draw, full=shapes, count=2):
    """Shapes that broadcast together: leading dimensions left out, others shrunk to 1."""
    full = draw(full)
    kept = [full[len(full) - draw(st.integers(0, len(full))) :] for _ in range(count)]
    return [tuple(draw(st.sampled_from([1, n])) for n in shape) for shape in kept]


def one_dim(draw, ndim):
    """A dimension as it may be written (-1), and its position."""
    d = draw(st.integers(0, ndim - 1))
    return draw(st.sampled_from([d, d - ndim])), d


def some_dims(draw, ndim):
    """A `dim` argument, and the dimensions it means."""
    if ndim == 0 or draw(st.booleans()):
        return None, tuple(range(ndim))
    if draw(st.booleans()):
        written, d = one_dim(draw, ndim)
        return written, (d,)
    dims = draw(st.lists(st.integers(0, ndim - 1), min_size=1, unique=True))
    return [d - draw(st.sampled_from([0, ndim])) for d in dims], tuple(dims)


def an_index(draw, rng, shape):
    """An index of any kind: ints, slices, None, ..., integer arrays with repeats, a mask."""
    kind = draw(st.sampled_from(["basic", "one array", "two arrays", "mask", "Tensor"]))
    if kind == "mask":
        mask = rng.random(shape[: draw(st.integers(1, len(shape)))]) < 0.6
        return draw(st.sampled_from([mask, tensor(mask)]))
    if kind == "two arrays" and len(shape) > 1:
        n = draw(sizes)
        return tuple(rng.integers(-size, size, (n, 1)[i:]) for i, size in enumerate(shape[:2]))
    entries = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        choices = [
            draw(st.integers(-size, size - 1)),
            slice(draw(st.integers(0, size)), None, draw(st.sampled_from([1, 2]))),
            slice(None, None, -1),
        ]
        entries.append(draw(st.sampled_from(choices)))
    if kind in ("one array", "Tensor"):
        array = rng.integers(-shape[0], shape[0], draw(shapes))
        entries[:1] = [tensor(array) if kind == "Tensor" else array]
    if draw(st.booleans()):
        entries.append(...)
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), None)
    return tuple(entries)


@st.composite
def windows(draw):
    """Geometries of a convolution, from the grid's size backwards, so that each is legal.

    The remainder is what an inexact stride leaves over. The padding grows until the image is 1 pixel.
    So the padding may exceed the kernel, and the kernel the image.
    """
    axes = []
    for _ in range(2):
        kernel, stride, grid = draw(st.integers(1, 4)), draw(sizes), draw(sizes)
        remainder = draw(st.integers(0, stride - 1))
        padded = (grid - 1) * stride + kernel + remainder
        pad = draw(st.integers(0, (padded - 1) // 2))
        axes.append((padded - 2 * pad, kernel, stride, pad))
    return Window(*zip(*axes, strict=True))


def convolution(draw, rng):
    """A window, its image x, its weight w and its grid y; N, C and O start at 1."""
    window = draw(windows())
    n, c, o = draw(sizes), draw(sizes), draw(sizes)
    shapes = (n, c, *window.image), (o, c, *window.kernel), (n, o, *window.grid)
    return window, *(leaf(rng, s) for s in shapes)


# -- elementwise operations ---------------------------------------------------------------------


def arithmetic(name, formula, gap=0.0):
    """Two tensors that broadcast, a number on either side, or one tensor on both sides."""

    @case(name)
    def build(draw, rng):
        f, by_formula = getattr(ops, name), ref.elementwise(formula)
        number = draw(st.sampled_from([2, -0.5, np.float64(3.0), True]))
        a, b = (leaf(rng, s, gap) for s in draw(broadcastable()))
        forms = [
            (f, [a, b], by_formula),
            (lambda x: f(x, number), [a], lambda x: by_formula(x, number)),
            (lambda x: f(number, x), [b], lambda x: by_formula(number, x)),
            # + 30 keeps the quotient's point of inflection, x^2 = 3 * 30, out of reach, because
            # differences cannot resolve a second derivative near 0
            (lambda x: f(x, x * x + 30), [a], lambda x: by_formula(x, x * x + 30)),
        ]
        return draw(st.sampled_from(forms))


arithmetic("add", lambda a, b: a + b)
arithmetic("sub", lambda a, b: a - b)
arithmetic("mul", lambda a, b: a * b)
arithmetic("div", lambda a, b: a / b, gap=0.5)


def function(name, formula, **values):
    @case(name)
    def build(draw, rng):
        return getattr(ops, name), [leaf(rng, draw(shapes), **values)], ref.elementwise(formula)


function("neg", lambda x: -x)
function("exp", lambda x: np.e**x)
function("log", ref.log, gap=0.5, positive=True)
function("sqrt", lambda x: x**0.5, gap=0.5, positive=True)
function("abs", lambda x: x if x > 0 else -x, gap=GAP)
function("relu", lambda x: max(x, 0), gap=GAP)
function("tanh", lambda x: 1 - 2 / (ref.exp(2 * x) + 1))
function("sigmoid", ref.sigmoid)
function("softplus", ref.softplus)


@case("pow")
def _pow(draw, rng):
    exponent = draw(st.sampled_from([0, 1, 2, 3, -1, -2, 0.5, -1.5, 2.5, np.float64(2)]))
    x = leaf(rng, draw(shapes), gap=0.5, positive=exponent != int(exponent))
    return lambda x: x**exponent, [x], ref.elementwise(lambda x: x**exponent)


@case("rpow")
def _rpow(draw, rng):
    base = draw(st.sampled_from([2, 1, 0.5, np.float64(3)]))
    return lambda x: base**x, [leaf(rng, draw(shapes))], ref.elementwise(lambda x: base**x)


@case("leaky_relu")
def _leaky_relu(draw, rng):
    slope = draw(st.sampled_from([0.2, 0, 1, 1.5, np.float64(0.1)]))
    formula = ref.elementwise(lambda x: x if x > 0 else slope * x)
    return lambda x: F.leaky_relu(x, slope), [leaf(rng, draw(shapes), gap=GAP)], formula


@case("clamp")
def _clamp(draw, rng):
    low = draw(st.sampled_from([None, -0.5, 0, np.float64(-0.3)]))
    high = draw(st.sampled_from([0.5, 1, np.float64(0.3)] + [None] * (low is not None)))
    x = steps(rng, draw(shapes))  # multiples of 0.2: at least GAP from the odd bounds...
    x.data = x.data + np.where(x.data == 0, GAP, 0) - np.where(x.data == 1, GAP, 0)  # ...and 0, 1
    formula = lambda v: min(max(v, -9 if low is None else low), 9 if high is None else high)
    return lambda x: F.clamp(x, low, high), [x], ref.elementwise(formula)


@case("maximum")
def _maximum(draw, rng):
    a, b = draw(broadcastable())
    a, b = steps(rng, a), steps(rng, b, offset=GAP)
    formula = ref.elementwise(max)
    forms = [
        (F.maximum, [a, b], formula),
        (lambda x: F.maximum(x, 0.3), [a], lambda x: formula(x, 0.3)),
        (lambda x: F.maximum(np.float64(0.3), x), [a], lambda x: formula(0.3, x)),
    ]
    return draw(st.sampled_from(forms))


@case("minimum")
def _minimum(draw, rng):
    a, b = draw(broadcastable())
    return F.minimum, [steps(rng, a), steps(rng, b, offset=GAP)], ref.elementwise(min)


@case("keep")
def _keep(draw, rng):
    mask, x = draw(broadcastable())
    mask, x = rng.random(mask) < 0.5, leaf(rng, np.broadcast_shapes(mask, x))
    formula = ref.elementwise(lambda m, x: x if m else 0.0)
    on = lambda device: backend.move(np.asarray(mask), device)
    return lambda x: ops._keep(x, mask=on(x.device)), [x], lambda x: formula(mask, x)


@case("where")
def _where(draw, rng):
    mask, a, b = draw(broadcastable(count=3))
    mask, a, b = rng.random(mask) < 0.5, leaf(rng, a), leaf(rng, b)
    formula = ref.elementwise(lambda m, a, b: a if m else b)
    forms = [
        (lambda a, b: F.where(mask, a, b), [a, b], lambda a, b: formula(mask, a, b)),
        (lambda a: F.where(tensor(mask), a, -1.0), [a], lambda a: formula(mask, a, -1)),
        (lambda b: F.where(mask, np.float64(2), b), [b], lambda b: formula(mask, 2, b)),
    ]
    return draw(st.sampled_from(forms))


@case("cross_entropy")
def _cross_entropy(draw, rng):
    shape = draw(shapes)
    p, t = (tensor(rng.uniform(0.1, 0.9, shape), requires_grad=True) for _ in "pt")
    formula = ref.elementwise(ref.bce)
    reduce = {"none": lambda y: y, "sum": np.sum, "mean": np.mean}
    how = draw(st.sampled_from(sorted(reduce)))
    by_formula = lambda p, t: np.asarray(reduce[how](formula(p, t)))
    return lambda p, t: F.binary_cross_entropy(p, t, how), [p, t], by_formula


@case("bce_with_logits")
def _bce_with_logits(draw, rng):
    shape = draw(shapes)
    x, t = leaf(rng, shape), tensor(rng.random(shape), requires_grad=True)
    formula = ref.elementwise(lambda x, t: ref.bce(ref.sigmoid(x), t))
    fn = lambda x, t: F.binary_cross_entropy_with_logits(x, t, "none")
    if draw(st.booleans()):  # one label for all elements
        label = draw(st.sampled_from([0, 0.9, 1.0]))
        return (
            lambda x: fn(x, label),
            [x],
            ref.elementwise(lambda x: ref.bce(ref.sigmoid(x), label)),
        )
    return fn, [x, t], formula


@case("cast")
def _cast(draw, rng):
    x = leaf(rng, draw(shapes))
    return lambda x: ops._cast(x, dtype=x.dtype), [x], np.copy


@case("copy")
def _copy(draw, rng):
    order = draw(st.sampled_from("KC"))
    return lambda x: ops._copy(x, order=order), [leaf(rng, draw(shapes))], np.copy


@case("move")
def _move(draw, rng):
    return lambda x: ops._move(x, device="cpu"), [leaf(rng, draw(shapes))], np.copy


# -- reductions ---------------------------------------------------------------------------------


def a_reduction(name, formula, draw, rng, **options):
    x = leaf(rng, draw(shapes))
    dim, dims = some_dims(draw, x.ndim)
    keepdim = draw(st.booleans())
    names = draw(st.sampled_from([("dim", "keepdim"), ("axis", "keepdims")]))
    arguments = dict(zip(names, (dim, keepdim), strict=True), **options)
    fn = lambda x: getattr(F, name)(x, **arguments)
    return fn, [x], ref.reduction(formula, dims, keepdim)


@case("sum")
def _sum(draw, rng):
    return a_reduction("sum", sum, draw, rng)


@case("mean")
def _mean(draw, rng):
    return a_reduction("mean", ref.mean, draw, rng)


@case("var")
def _var(draw, rng):
    correction = draw(st.sampled_from([0, -1]))  # +1, the default, needs two elements: see test_ops
    return a_reduction("var", lambda v: ref.var(v, correction), draw, rng, correction=correction)


@case("extremum")
def _extremum(draw, rng):
    x = leaf(rng, draw(shapes))
    x.data = GAP * rng.permutation(x.numel()).reshape(x.shape)  # all different
    dim, dims = some_dims(draw, x.ndim)
    keepdim, name = draw(st.booleans()), draw(st.sampled_from(["amax", "amin"]))
    formula = ref.reduction({"amax": max, "amin": min}[name], dims, keepdim)
    return lambda x: getattr(F, name)(x, dim, keepdim), [x], formula


# -- shaping ------------------------------------------------------------------------------------


@case("reshape")
def _reshape(draw, rng):
    shape = draw(some_shapes)
    last = shape[-1]
    targets = [(-1,), shape[::-1], (*shape, 1), (-1, last), (last, -1, 1), int(np.prod(shape))]
    target = draw(st.sampled_from(targets))
    spread = isinstance(target, tuple) and draw(st.booleans())  # f(2, 3) or f((2, 3))
    fn = (lambda x: x.reshape(*target)) if spread else (lambda x: x.reshape(target))
    return fn, [leaf(rng, shape)], lambda x: np.array(list(x.flat)).reshape(target)


@case("flatten")
def _flatten(draw, rng):
    shape = draw(shapes)
    start = draw(st.integers(0, max(0, len(shape) - 1)))
    end = draw(st.integers(start, max(start, len(shape) - 1)))
    flat = (*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])
    return lambda x: F.flatten(x, start, end), [leaf(rng, shape)], lambda x: x.reshape(flat)


@case("permute")
def _permute(draw, rng):
    x = leaf(rng, draw(shapes))
    order = draw(st.permutations(range(x.ndim)))
    written = [d - draw(st.sampled_from([0, x.ndim])) for d in order]
    return lambda x: x.permute(written), [x], lambda x: ref.permute(x, order)


@case("transpose")
def _transpose(draw, rng):
    x = leaf(rng, draw(some_shapes))
    (i, a), (j, b) = one_dim(draw, x.ndim), one_dim(draw, x.ndim)
    order = [b if d == a else a if d == b else d for d in range(x.ndim)]
    return lambda x: x.transpose(i, j), [x], lambda x: ref.permute(x, order)


@case("expand")
def _expand(draw, rng):
    full = draw(shapes)
    (shape,) = draw(broadcastable(st.just(full), 1))
    extra = len(full) - len(shape)
    keep = [
        i >= extra and shape[i - extra] == n and draw(st.booleans()) for i, n in enumerate(full)
    ]
    written = [-1 if k else n for k, n in zip(keep, full, strict=True)]
    by_formula = lambda x: ref.elementwise(lambda x, _: x)(x, np.empty(full))
    return lambda x: x.expand(written), [leaf(rng, shape)], by_formula


@case("squeeze")
def _squeeze(draw, rng):
    x = leaf(rng, draw(shapes))
    dim, dims = some_dims(draw, x.ndim)
    left = [n for d, n in enumerate(x.shape) if n != 1 or d not in dims]
    return lambda x: F.squeeze(x, axis=dim), [x], lambda x: x.reshape(left)


@case("unsqueeze")
def _unsqueeze(draw, rng):
    x = leaf(rng, draw(shapes))
    dim, d = one_dim(draw, x.ndim + 1)
    return lambda x: x.unsqueeze(dim), [x], lambda x: x.reshape(*x.shape[:d], 1, *x.shape[d:])


@case("pad")
def _pad(draw, rng):
    x = leaf(rng, draw(some_shapes))
    widths = [(0, 0)] * x.ndim
    for d in range(x.ndim - draw(st.integers(0, x.ndim)), x.ndim):  # the last few dimensions
        before = draw(st.integers(1 - x.shape[d], 2))
        widths[d] = before, draw(st.integers(1 - x.shape[d] - min(0, before), 2))
    value = draw(st.sampled_from([0.0, 1.5, np.float64(-1)]))
    amounts = [w for pair in widths[::-1] for w in pair]
    return lambda x: F.pad(x, amounts, value=value), [x], lambda x: ref.pad(x, widths, value)


def _mirrored(draw, rng):
    x = leaf(rng, draw(st.lists(st.integers(2, 4), min_size=1, max_size=3)))
    widths = [(0, 0)] * x.ndim
    for d in range(x.ndim - draw(st.integers(0, x.ndim)), x.ndim):  # the last few dimensions
        widths[d] = tuple(draw(st.integers(0, x.shape[d] - 1)) for _ in range(2))
    return x, widths


@case("mirror")
def _mirror(draw, rng):
    x, widths = _mirrored(draw, rng)
    amounts = [w for pair in widths[::-1] for w in pair]
    by_formula = lambda x: np.pad(x, widths, mode="reflect")
    return lambda x: F.pad(x, amounts, mode="reflect"), [x], by_formula


@case("unmirror")
def _unmirror(draw, rng):
    x, widths = _mirrored(draw, rng)
    y = leaf(rng, np.pad(x.numpy(), widths).shape)
    widths = tuple(widths)
    return lambda y: pieces._unmirror(y, widths=widths), [y], lambda y: ref.unmirror(y, widths)


# -- joining, indexing, matmul ------------------------------------------------------------------


@case("cat")
def _cat(draw, rng):
    shape = draw(some_shapes)
    dim, d = one_dim(draw, len(shape))
    lengths = draw(st.lists(sizes, min_size=1, max_size=3))
    xs = [leaf(rng, (*shape[:d], n, *shape[d + 1 :])) for n in lengths]
    twice = draw(st.booleans())  # the first tensor may be repeated at the end
    fn = lambda *xs: F.cat([*xs, *xs[:twice]], dim)
    return fn, xs, lambda *xs: ref.cat([*xs, *xs[:twice]], d)


@case("stack")
def _stack(draw, rng):
    shape = draw(shapes)
    dim, d = one_dim(draw, len(shape) + 1)
    xs = [leaf(rng, shape) for _ in range(draw(sizes))]
    return lambda *xs: F.stack(xs, axis=dim), xs, lambda *xs: np.stack(xs, d)


@case("getitem")
def _getitem(draw, rng):
    x = leaf(rng, draw(some_shapes))
    index = an_index(draw, rng, x.shape)
    return lambda x: x[index], [x], lambda x: x[arrays(index)]


@case("put")
def _put(draw, rng):
    shape = draw(some_shapes)
    index = arrays(an_index(draw, rng, shape))
    x = leaf(rng, np.empty(shape)[index].shape)
    fn = lambda x: pieces._put(x, index=index, shape=shape)
    return fn, [x], lambda x: ref.put(x, index, shape)


def arrays(index):
    """The index as NumPy takes it."""
    return tuple(raw(i) for i in index) if isinstance(index, tuple) else raw(index)


@case("matmul")
def _matmul(draw, rng):
    n, k, m = draw(sizes), draw(sizes), draw(sizes)
    a, b = draw(broadcastable())
    a, b = draw(st.sampled_from([(k,), (*a, n, k)])), draw(st.sampled_from([(k,), (*b, k, m)]))
    return lambda a, b: a @ b, [leaf(rng, a), leaf(rng, b)], ref.matmul


@case("linear")
def _linear(draw, rng):
    batch, inside, out = draw(shapes), draw(sizes), draw(sizes)
    inputs = [leaf(rng, s) for s in ((*batch, inside), (out, inside), (out,))]
    bias = draw(st.booleans())
    return F.linear, inputs[: 2 + bias], lambda x, w, b=0.0: ref.matmul(x, w.T) + b


# -- convolution and normalisation --------------------------------------------------------------


@case("conv")
def _conv(draw, rng):
    window, x, w, _ = convolution(draw, rng)
    batched, bias = draw(st.booleans()), leaf(rng, w.shape[:1])
    x = x if batched else leaf(rng, x.shape[1:])
    fn = lambda x, w, b: F.conv2d(x, w, b, window.stride, window.pad)

    def by_formula(x, w, b):
        y = ref.conv(x if batched else x[None], w, window.stride, window.pad) + b[:, None, None]
        return y if batched else y[0]

    return fn, [x, w, bias], by_formula


@case("conv_image")
def _conv_image(draw, rng):
    window, _, w, y = convolution(draw, rng)
    batched, bias = draw(st.booleans()), leaf(rng, w.shape[1:2])
    y = y if batched else leaf(rng, y.shape[1:])
    axes = zip(window.image, window.kernel, window.stride, window.pad, strict=True)
    extra = [(i + 2 * p - k) % s for i, k, s, p in axes]
    fn = lambda y, w, b: F.conv_transpose2d(y, w, b, window.stride, window.pad, extra)

    def by_formula(y, w, b):
        y = y if batched else y[None]
        x = ref.conv_transpose(y, w, window.stride, window.pad, window.image) + b[:, None, None]
        return x if batched else x[0]

    return fn, [y, w, bias], by_formula


@case("conv_weight")
def _conv_weight(draw, rng):
    window, x, _, y = convolution(draw, rng)
    fn = lambda x, y: conv._conv_weight(x, y, window=window)
    return fn, [x, y], lambda x, y: ref.conv_weight(x, y, window.stride, window.pad, window.kernel)


def taps(x, window):
    """The pixels of each window, 0 outside the image: (N*OH*OW, kh*kw, C)."""
    y = np.zeros((len(x), *window.grid, *window.kernel, x.shape[1]))
    for p, k, q in ref.meetings(window.image, window.kernel, window.stride, window.pad):
        y[(slice(None), *p, *k)] = x[(slice(None), slice(None), *q)]
    return y.reshape(-1, np.prod(window.kernel), x.shape[1])


@case("unfold")
def _unfold(draw, rng):
    window, x, _, _ = convolution(draw, rng)
    return lambda x: resizing._unfold(x, window=window), [x], lambda x: taps(x, window)


@case("fold")
def _fold(draw, rng):
    window, x, _, _ = convolution(draw, rng)
    shape = taps(x.numpy(), window).shape

    def by_formula(y):
        """The image whose dot product with any image equals that of y with the other image's taps."""
        units = np.eye(x.numel()).reshape(-1, *x.shape)
        return np.array([(taps(unit, window) * y).sum() for unit in units]).reshape(x.shape)

    return lambda y: resizing._fold(y, window=window), [leaf(rng, shape)], by_formula


@case("add_windows")
def _add_windows(draw, rng):
    window, x, _, _ = convolution(draw, rng)
    kernel = tuple(draw(st.integers(1, n)) for n in x.shape[2:])
    window = Window(x.shape[2:], kernel, window.stride, (0, 0))
    by_formula = lambda x: ref.conv(
        x.reshape(-1, 1, *window.image), np.ones((1, 1, *window.kernel)), window.stride, (0, 0)
    ).reshape(*x.shape[:2], *window.grid)
    return lambda x: resizing._add_windows(x, window=window), [x], by_formula


@case("repeat_windows")
def _repeat_windows(draw, rng):
    window, x, _, _ = convolution(draw, rng)
    kernel = tuple(draw(st.integers(1, n)) for n in x.shape[2:])
    window = Window(x.shape[2:], kernel, window.stride, (0, 0))
    y = leaf(rng, (*x.shape[:2], *window.grid))
    by_formula = lambda y: ref.conv_transpose(
        y.reshape(-1, 1, *window.grid),
        np.ones((1, 1, *kernel)),
        window.stride,
        (0, 0),
        window.image,
    ).reshape(x.shape)
    return lambda y: resizing._repeat_windows(y, window=window), [y], by_formula


@case("max_windows")
def _max_windows(draw, rng):
    window, x, _, _ = convolution(draw, rng)
    kernel = tuple(draw(st.integers(1, n)) for n in x.shape[2:])
    window = Window(x.shape[2:], kernel, window.stride, (0, 0))

    def by_formula(x):
        found = taps(x, window).max(1)  # (N*OH*OW, C)
        return found.reshape(len(x), *window.grid, -1).transpose(0, 3, 1, 2)

    return lambda x: resizing._max_windows(x, window=window), [x], by_formula


def normalisable(draw, rng):
    """x of shape (N, C), (N, C, L) or (N, C, H, W), a scale and a shift, for batch norm followed by a
    leaky ReLU.

    Half of the batch is near 1, the other half near -1, and the shift is below half of the scale. So
    nothing comes near the kink, whatever the channel's mean. There are at least six values per channel;
    with two, the gradient would be only the rounding error of a difference.
    """
    pixels = draw(st.lists(sizes, max_size=2))
    n, c = (6 if np.prod(pixels) < 3 else 2), draw(sizes)
    x = rng.uniform(-0.2, 0.2, (n, c, *pixels))
    x[::2] += 1
    x[1::2] -= 1
    scale = leaf(rng, c, gap=0.5)
    shift = tensor(scale.numpy() * rng.uniform(-0.2, 0.2, c), requires_grad=True)
    return tensor(x, requires_grad=True), scale, shift


def statistics(x, eps):
    """The statistics of x over all dimensions except the channels."""
    mean, var = moments(backend.array_module(x.data), x.data)
    return normalize.Statistics(eps, mean, (var + eps) ** -0.5)


slopes = st.sampled_from([1.0, 0.0, 0.2, 1.5])
epsilons = st.sampled_from([1e-5, 0.1, np.float64(1e-3)])


@case("batch_norm")
def _batch_norm(draw, rng):
    x, scale, shift = normalisable(draw, rng)
    eps, slope = draw(epsilons), draw(slopes)

    def fn(x, w=None, b=None):
        return normalize.batch_norm_activated(x, None, None, w, b, True, 0.1, eps, slope)

    leak = ref.elementwise(lambda v: v if v > 0 else slope * v)
    by_formula = lambda x, *affine: leak(ref.batch_norm(x, eps, *affine))
    return fn, draw(st.sampled_from([[x], [x, scale], [x, scale, shift]])), by_formula


@case("group_norm")
def _group_norm(draw, rng):
    groups, size, n = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    shape = (n, groups * size, *draw(st.lists(sizes, min_size=1, max_size=2)), 6)
    x = rng.uniform(-0.2, 0.2, shape)
    x[..., ::2] += 1  # as in `normalisable`
    x[..., 1::2] -= 1
    affine = shape[:2] if size == 1 and draw(st.booleans()) else shape[1:2]  # AdaIN, or shared
    scale = leaf(rng, affine, gap=0.5)
    shift = tensor(scale.numpy() * rng.uniform(-0.2, 0.2, affine), requires_grad=True)
    eps, slope = draw(epsilons), draw(slopes)

    def fn(x, w=None, b=None):
        if size == 1:
            return image_norm.instance_norm_activated(x, w, b, eps, slope)
        return image_norm.group_norm_activated(x, groups, w, b, eps, slope)

    leak = ref.elementwise(lambda v: v if v > 0 else slope * v)
    by_formula = lambda x, *affine: leak(ref.group_norm(x, groups, eps, *affine))
    x = tensor(x, requires_grad=True)
    return fn, draw(st.sampled_from([[x], [x, scale], [x, scale, shift]])), by_formula


@case("scale_shift")
def _scale_shift(draw, rng):
    x, scale, shift = normalisable(draw, rng)
    mean = tensor(rng.uniform(-0.2, 0.2, scale.shape), requires_grad=True)
    var = tensor(rng.uniform(0.5, 2, scale.shape), requires_grad=True)
    eps, slope = draw(epsilons), draw(slopes)

    def fn(x, mean, var, w=None, b=None):
        return normalize.batch_norm_activated(x, mean, var, w, b, False, 0.1, eps, slope)

    leak = ref.elementwise(lambda v: v if v > 0 else slope * v)
    by_formula = lambda x, m, v, *affine: leak(
        ref.batch_norm(x, eps, *affine, means=m, variances=v)
    )
    return fn, draw(st.sampled_from([[x, mean, var], [x, mean, var, scale, shift]])), by_formula


@case("normalize_over")
def _normalize(draw, rng):
    x, _, _ = normalisable(draw, rng)
    axes, eps = (0, *range(2, x.ndim)), draw(epsilons)
    fn = lambda x: normalize.normalize_over(x, axes=axes, stats=statistics(x, float(eps)))
    return fn, [x], lambda x: ref.batch_norm(x, eps)


@case("inv_std")
def _inv_std(draw, rng):
    x, _, _ = normalisable(draw, rng)
    axes = (0, *range(2, x.ndim))
    fn = lambda x: normalize._inv_std(x, axes=axes, stats=statistics(x, 0.1))
    return fn, [x], ref.reduction(lambda v: (ref.var(v, 0) + 0.1) ** -0.5, axes, True)


# -- modules ------------------------------------------------------------------------------------


def as_function(module, forward=None):
    """The module as a function (input, *parameters) -> output, and its parameters as leaves."""
    places = [
        (m, n) for m in module.modules() for n, p in vars(m).items() if isinstance(p, Parameter)
    ]
    leaves = [tensor(getattr(m, n), requires_grad=True) for m, n in places]

    def fn(x, *parameters):
        for (m, name), p in zip(places, parameters, strict=True):
            vars(m)[name] = p  # bypasses the check that refuses a Tensor for a Parameter
        return (forward or module)(x)

    return fn, leaves
