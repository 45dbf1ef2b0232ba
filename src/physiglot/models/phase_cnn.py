"""The convolutional network of Ding, Tang & Yu (2022): the series as an image of sites × steps."""

from torch import Tensor, nn

from ..phases.classifier import Classifier, channels, he_normal, head
from ..phases.labels import Labelled


class Params(Labelled):
    pass


class Model(Classifier):
    """2 × [3×3 convolution, 16 channels, batch norm, leaky relu, spatial dropout 0.05] and the dense head.

    211,697 numbers for 20 spins and 10 steps, 64 of them buffers. Batch norm and slope are those of Keras: momentum
    0.99 (0.01 in torch), ε 1e-3, slope 0.3.
    """

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        self.channels, layers = channels(params), []
        for inputs in (self.channels, 16):
            layers += [he_normal(nn.Conv2d(inputs, 16, 3, padding=1)), nn.BatchNorm2d(16, eps=1e-3, momentum=0.01)]
            layers += [nn.LeakyReLU(0.3), nn.Dropout2d(0.05)]
        self.image = nn.Sequential(*layers)
        self.head = head(16 * params.series * params.steps)

    def logit(self, x: Tensor) -> Tensor:
        image = x.unflatten(-1, (-1, self.channels)).permute(0, 3, 2, 1)
        return self.head(self.image(image).flatten(1)).squeeze(-1)
