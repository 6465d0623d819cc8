"""Exercises with a check: a learner writes one function, and is told in numbers what is wrong with
it.

An exercise is a page in `ladder/`, a module with the same parts in the same order:

    its docstring     the task; the first line is the title
    the first function
                      the answer. A learner gets its signature and its docstring, without the body
    measure(answer)   the check: yields (what is measured, the number found, what it should be). If
                      these are False and True, `what` says what is wrong
    wrong_...         typical wrong answers; the docstring of each is the hint for whoever gives it
    HINTS             what `minigan learn hint` tells, one sentence at a time
    OFF_LIMITS        modules whose functions the answer must not call, because they are the solution
    PICTURES          the names of pictures that come with the exercise; a page may leave this out

So a new exercise is a page, and its name in the import and in PAGES of `ladder/__init__.py`; the tests
walk the ladder.
`exercise.py` reads a page, `judge.py` compares an answer with it, `process.py` does so in a limited
process, and `progress.py` keeps what a learner has done.
"""
