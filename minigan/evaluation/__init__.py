"""How good is a generator? Metrics that compare arrays of fakes with arrays of reals."""
