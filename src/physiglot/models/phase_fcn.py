"""The fully connected network of Ding, Tang & Yu (2022): the series flattened, four dense layers."""

from itertools import pairwise

from torch import Tensor, nn

from ..phases.classifier import Classifier, channels, he_normal
from ..phases.labels import Labelled


class Params(Labelled):
    pass


class Model(Classifier):
    """Flatten, 4 × [128 units, relu, dropout 0.1], 1 unit: 75,393 parameters for 20 spins and 10 steps."""

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        widths, layers = [params.series * params.steps * channels(params), 128, 128, 128, 128], []
        for a, b in pairwise(widths):
            layers += [he_normal(nn.Linear(a, b)), nn.ReLU(), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*layers, he_normal(nn.Linear(128, 1)))

    def logit(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2).flatten(1)).squeeze(-1)
