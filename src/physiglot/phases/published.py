"""The published crossings of the square Ising model against the number of steps: mean over 10 runs.

J. Ding, H.-K. Tang, W. C. Yu, SciPost Phys. 13, 057 (2022), figure 3, as decoded from the authors' result files. Errors
are standard errors where the files give them, else NaN; NaN for a mean that was not published.
"""

import numpy as np

STEPS = np.array([3, 4, 5, 6, 7, 8, 9, 10, 20, 40, 60, 80, 100])
X = np.nan
CROSSINGS = {
    "Transformer": [2.342, 2.358, 2.238, 2.350, 2.324, 2.314, 2.287, 2.272, 2.280, 2.290, 2.325, 2.274, 2.321],
    "BiLSTM": [2.222, 2.255, 2.346, 2.297, 2.335, 2.316, 2.322, 2.246, 2.311, 2.313, 2.312, 2.303, 2.307],
    "CNN": [X, X, X, X, 2.252, 2.230, 2.161, 2.179, 2.192, 2.243, 2.188, 2.302, 2.248],
    "FCN": [X, X, 2.547, 2.489, 2.542, 2.635, 2.549, 2.607, 2.791, 2.674, 2.731, 2.885, 2.721],
}
ERRORS = {
    "Transformer": [X, X, X, X, X, X, X, 0.008, 0.012, 0.014, 0.023, 0.010, 0.005],
    "BiLSTM": [X, X, X, X, X, X, X, 0.020, 0.004, 0.004, 0.004, 0.007, 0.005],
    "CNN": [X, X, X, X, X, X, X, 0.039, X, X, X, X, 0.018],
    "FCN": [X, X, X, X, X, X, X, 0.025, X, X, X, X, 0.029],
}
