"""Variational autoencoder: latent Gaussians, a decoder, and an encoder that guesses the latents of a configuration.

D. P. Kingma, M. Welling, Auto-encoding variational Bayes, arXiv 1312.6114; the importance-weighted bound: Y. Burda,
R. Grosse, R. Salakhutdinov, arXiv 1509.00519. ln q(x) = ln ∫ p(x|z) N(z) dz is known by lower bounds only. Without
hidden layers the model is probabilistic principal component analysis, whose optimum is in closed form (`exact.ppca`).
"""

from itertools import pairwise
from math import log, pi, prod
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..generative import losses
from ..generative.flows import spread
from ..strict import Strict
from ..targets import Target

WALK = (-2.0, -1.0, 0.0, 1.0, 2.0)  # values of a latent
TOGETHER = 64  # latents of a configuration that are held at a time


class Params(Strict):
    latents: int = Field(8, ge=1, description="dimension of the latent Gaussian")
    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        [64], description="widths of encoder and, backwards, decoder; none: a linear model with one encoder width"
    )
    importance: int = Field(
        1,
        ge=1,
        description="latents per configuration in training: 1 is the ELBO, more is the importance-weighted bound",
    )
    judged: int = Field(64, ge=1, description="latents per configuration of the bound that is reported (IWAE-64)")


class Model(nn.Module):
    """q(z|x) Gaussian of diagonal covariance; p(x|z) Gaussian of one width, or independent spins (Bernoulli).

    Real configurations are standardised by `mean` and `std`; spins are not.
    """

    log_prob_kind = "lower_bound"
    reparam = True
    mean: Tensor
    std: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        self.params, self.target, self.spins = params, target, target.support == "spin"
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        sites, k = prod(target.shape), params.latents
        given = (torch.zeros(sites), torch.ones(sites)) if self.spins else (mean, std)
        for name, value in zip(("centre", "unit"), given, strict=True):
            self.register_buffer(name, spread(value, target.shape), persistent=False)
        self.encoder = _network([sites, *params.hidden, 2 * k if params.hidden else k])
        self.width = None if params.hidden else nn.Parameter(torch.zeros(k))
        self.decoder = _network([k, *reversed(params.hidden), sites])
        self.noise = None if self.spins else nn.Parameter(torch.zeros(()))

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        """What is lost of the bound; nats per configuration."""
        x = self.target.configurations(batch["state"])
        count = self.params.importance if self.training else 1
        return {"loss": losses.elbo(self, x) if count == 1 else losses.iwae(self, x, count)}

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and ln width (batch, latent) of the latents of x (batch, *shape), else a ValueError."""
        if tuple(x.shape[1:]) != tuple(self.target.shape):
            raise ValueError(f"x: {tuple(x.shape)}: it must be (batch, {', '.join(map(str, self.target.shape))})")
        found = self.encoder((x.to(self.unit).flatten(1) - self.centre) / self.unit)
        if self.width is not None:
            return found, self.width.expand_as(found)
        mean, width = found.chunk(2, -1)
        return mean, width

    def likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """ln p(x|z) (…) of x (…, site) and z (…, latent)."""
        field = self.decoder(z)
        if self.noise is None:
            return (functional.logsigmoid(2 * x * field)).sum(-1)
        scale = self.unit * self.noise.exp()
        residual = (x - self.centre - self.unit * field) / scale
        return -0.5 * (residual.square() + log(2 * pi)).sum(-1) - scale.log().sum()

    def elbo(self, x: Tensor) -> Tensor:
        """E_q(z|x)[ln p(x|z)] − KL(q(z|x) ‖ N) ≤ ln q(x) (batch), by one z of each and the closed form of KL."""
        mean, width = self.encode(x)
        z = mean + width.exp() * torch.randn_like(mean)
        lost = 0.5 * (mean.square() + (2 * width).exp() - 1) - width
        return (self.likelihood(x.to(self.unit).flatten(1), z) - lost.sum(-1)).double()

    def iwae(self, x: Tensor, count: int) -> Tensor:
        """E[ln of the mean of `count` weights p(x|z) N(z) / q(z|x)] ≤ ln q(x) (batch); rises with `count`."""
        mean, width = self.encode(x)
        flat, weights = x.to(self.unit).flatten(1), []
        for start in range(0, count, TOGETHER):
            noise = torch.randn(min(TOGETHER, count - start), *mean.shape, dtype=mean.dtype, device=mean.device)
            z = mean + width.exp() * noise
            prior = (0.5 * (noise.square() - z.square()) + width).sum(-1)
            weights.append((self.likelihood(flat, z) + prior).double())
        return torch.logsumexp(torch.cat(weights), 0) - log(count)

    def log_prob(self, x: Tensor) -> Tensor:
        """A lower bound of ln q (batch): the importance-weighted one with `judged` latents, an estimate."""
        return self.iwae(x, self.params.judged)

    def reference(self, x: Tensor) -> dict[str, Tensor]:
        """What it says of configurations of the target (batch): both bounds, and their exact ln p where it is known."""
        exact = self.target.exact_logZ()
        known = {} if exact is None else {"log_p": -self.target.beta * self.target.energy(x.double()) - exact}
        return {"elbo": self.elbo(x), "iwae": self.log_prob(x), **known}

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, None]:
        """x (n, *shape) of latents from their Gaussian; its density is not known."""
        like: dict[str, Any] = {"dtype": self.unit.dtype, "device": self.unit.device, "generator": generator}
        z = torch.randn(n, self.params.latents, **like)
        if self.noise is None:
            up = torch.rand(n, prod(self.target.shape), **like) < torch.sigmoid(2 * self.decoder(z))
            return (2.0 * up.to(z) - 1).unflatten(1, self.target.shape), None
        mean = self._mean(z)
        noise = (self.unit * self.noise.exp()).unflatten(0, self.target.shape)
        return mean + noise * torch.randn(mean.shape, **like), None

    def stages(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean configurations (n or fewer, *shape) while one latent goes from −2 to 2 and the others are 0.

        The latents that move most come first.
        """
        k = self.params.latents
        one = torch.eye(k, dtype=self.unit.dtype, device=self.unit.device)
        found = {f"z = {value:+.1f}": self._mean(value * one) for value in WALK}
        moved = (found[f"z = {WALK[-1]:+.1f}"] - found[f"z = {WALK[0]:+.1f}"]).flatten(1).square().sum(1)
        order = moved.argsort(descending=True)[:n]
        return {name: values[order] for name, values in found.items()}

    def _mean(self, z: Tensor) -> Tensor:
        field = self.decoder(z)
        x = field.tanh() if self.noise is None else self.centre + self.unit * field
        return x.unflatten(1, self.target.shape)


def _network(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
