"""The log-likelihood of test data under a Parzen window estimate, as in the first paper on GANs."""

from __future__ import annotations

import numpy as np

from .checks import as_rows, check_positive
from .distances import squared_distances


def parzen_log_likelihood(
    samples: np.ndarray, test: np.ndarray, sigma: float
) -> tuple[float, float]:
    """mean of log p(x) over the test data, p being a Gaussian of deviation sigma around each sample.

        log p(x) = log mean of exp(-|x - s_i|^2 / (2 sigma^2)) over i - d/2 log(2 pi sigma^2)

    samples, test  (N, d) and (M, d); computed in float64
    sigma          chosen on a validation set: max(sigmas, key=lambda s: parzen_log_likelihood(
                   samples, validation, s)[0])
    ->             the mean, in nats, and its standard error (0 for a single row)

    See Goodfellow et al. 2014, section 5. The estimate misleads (Theis, van den Oord & Bethge 2016, "A
    Note on the Evaluation of Generative Models"). In many dimensions no affordable number of samples
    fills the space, so it is far below the true value, depends mainly on sigma, and ranks models
    wrongly: a generator that only draws the mean of the data can beat fresh samples of the data.

    Time is O(N M d), memory that of a block.
    """
    samples, test = as_rows("parzen_log_likelihood", samples=samples, test=test)
    check_positive("parzen_log_likelihood", "sigma", sigma)
    logs = np.empty(len(test))
    for part, d in squared_distances(test, samples):
        d /= -2 * sigma**2
        highest = d.max(1)
        d -= highest[:, None]  # so that the largest term is exp(0), and the sum is not 0
        logs[part] = highest + np.log(np.exp(d, out=d).mean(1))
    logs -= test.shape[1] / 2 * np.log(2 * np.pi * sigma**2)
    error = logs.std(ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else 0.0
    return float(logs.mean()), float(error)
