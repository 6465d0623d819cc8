"""no_grad: as a context, and around functions of every kind."""

import functools

import pytest

from minigan import no_grad, tensor

w = tensor([2.0], requires_grad=True)


def recorded():
    return (w * 3.0).requires_grad


def test_the_context_may_be_entered_again_and_within_itself():
    context = no_grad()
    for _ in range(2):
        with context, context:
            assert not recorded()
        assert recorded()


@pytest.mark.parametrize("decorate", [no_grad(), no_grad], ids=["called", "bare"])
def test_a_function_under_it_records_nothing_and_its_caller_does(decorate):
    @decorate
    def product(by, *, again=False):
        """Documented"""
        return recorded() or (again and product(by)) or by

    assert product(5, again=True) == 5
    assert recorded()
    assert (product.__name__, product.__doc__) == ("product", "Documented")


def test_a_generator_under_it_records_nothing_and_those_who_iterate_do():
    log = []

    @no_grad()
    def steps(first):
        try:
            got = yield first, recorded()
            try:
                yield got, recorded()
            except KeyError as error:
                yield repr(error), recorded()
            return "end"
        finally:
            log.append(recorded())

    run = steps("a")
    assert (next(run), recorded()) == (("a", False), True)
    assert (run.send("b"), recorded()) == (("b", False), True)
    assert (run.throw(KeyError("c")), recorded()) == (("KeyError('c')", False), True)
    with pytest.raises(StopIteration, match="end"):
        next(run)
    assert [value for value, _ in steps("d")] == ["d", None]
    closed = steps("e")
    next(closed)
    closed.close()
    assert log == [False] * 3
    assert recorded()


class Waits:
    async def __call__(self):
        pass


@pytest.mark.parametrize("thing", [Waits, Waits(), functools.partial(Waits()), 1.0])
def test_what_is_no_function_is_refused(thing):
    kind = type(thing).__name__
    with pytest.raises(
        TypeError, match=rf"no_grad: expected a function or a method, not .*{kind};"
    ):
        no_grad()(thing)
    assert no_grad()(functools.partial(recorded).func)() is False
    with pytest.raises(TypeError, match="asynchronous"):
        no_grad()(Waits().__call__)


def test_asynchronous_functions_are_refused():
    async def waits():
        pass

    async def yields():
        yield

    for function in (waits, yields):
        with pytest.raises(TypeError, match=rf"{function.__name__} is asynchronous.*with no_grad"):
            no_grad()(function)
