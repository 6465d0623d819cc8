"""All metrics: plain NumPy arrays in, numbers out, computed in float64.

Features are what a network, or nothing at all, makes of images: (N, d), or any (N, ...), which is
flattened. Images are (N, C, H, W).

    features           frechet_distance          one number for everything; biased, so fix N
                       kernel_distance           the same question without bias
                       precision_recall          fidelity and diversity apart
                       density_coverage          the same, sturdier against outliers
                       different_bins            in which regions there are too many or too few fakes
                       parzen_log_likelihood     historical; it misleads
                       support_size              how many different fakes there are, by duplicates
    images             sliced_wasserstein        texture and form, scale by scale
                       ms_ssim                   how alike the images of a set are
    points             earth_mover               exact, of small sets
                       earth_mover_1d            exact, of any number of numbers
    a classifier's     inception_score           of its probabilities
    answers            mode_coverage             of its labels, where the modes are known

`standard_error` gives the uncertainty of any of them that takes two sets. A number means something only
beside its protocol: how many samples, which features, which seed.
"""

from .bins import different_bins, mode_coverage
from .duplicates import support_size
from .frechet import frechet_distance
from .kernel import kernel_distance
from .likelihood import parzen_log_likelihood
from .neighbours import density_coverage, precision_recall
from .resampling import standard_error
from .score import inception_score
from .similarity import ms_ssim
from .sliced import sliced_wasserstein
from .transport import earth_mover, earth_mover_1d

__all__ = [
    "density_coverage",
    "different_bins",
    "earth_mover",
    "earth_mover_1d",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "mode_coverage",
    "ms_ssim",
    "parzen_log_likelihood",
    "precision_recall",
    "sliced_wasserstein",
    "standard_error",
    "support_size",
]
