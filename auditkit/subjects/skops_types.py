"""Types that fitted scikit-learn models hold and skops does not trust by itself, reviewed one by one.

Each is a plain container of arrays, numbers and words (or a type, or a pure function of arrays) of scikit-learn, numpy,
pandas or scipy: building one runs no code of the file. Callables that reach files, processes or imports are
never on this list. Reviewed for scikit-learn 1.5 to 1.9.
"""

from __future__ import annotations

REVIEWED_TYPES = frozenset(
    {
        # trees and their ensembles
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        # calibration
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        # neighbours
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        # neural networks
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        # Gaussian processes
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        # columns chosen by their type, and the types that they are chosen by
        "builtins.object",
        "numpy.floating",
        "numpy.generic",
        "numpy.integer",
        "numpy.number",
        "pandas.CategoricalDtype",
        "sklearn.compose._column_transformer.make_column_selector",
        # preprocessing and selection
        "numpy.dtype",
        "numpy.mean",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
    }
)
