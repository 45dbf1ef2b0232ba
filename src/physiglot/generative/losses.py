"""What generative models are trained by. A loss that does not suit the kind of a model is a TypeError.

Reduced energy u = beta E. The value of each loss is its estimate, whatever its gradient is made of.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from ..velocity import paths

if TYPE_CHECKING:
    from torch import Tensor

    from ..targets import Hamiltonian, Target
    from ..velocity.paths import Coupling, Path

ALLOWED = {"exact": "free_energy, nll", "lower_bound": "elbo, iwae", "unnormalised": "cd"}


def needs(model: Any, kind: str, loss: str) -> None:
    """Raises TypeError if `model` is not of the kind that `loss` acts on, and names the losses that it allows."""
    if model.log_prob_kind != kind:
        raise TypeError(
            f"{loss}: needs a model whose log_prob is {kind}, and that of {type(model).__module__} is "
            f"{model.log_prob_kind}; allowed for it: {ALLOWED.get(model.log_prob_kind, 'its own loss')}"
        )


def annealed(beta: float, progress: float, anneal: float | None) -> float:
    """beta (1 − exp(−progress/anneal)): the temperature falls while the model learns; beta itself without `anneal`."""
    return beta if not anneal else beta * (1 - math.exp(-progress / anneal))


def free_energy(model: Any, target: Target, beta: float, n: int) -> Tensor:
    """E_q[beta E + ln q] ≥ −ln Z by `n` samples; its gradient through them (`model.reparam`), else by the score.

    The score-function gradient (R. J. Williams, Mach. Learn. 8, 229 (1992)) takes from each sample the mean of the
    others: with the mean of all it would be too small by 1 − 1/n.
    """
    needs(model, "exact", "free_energy")
    if model.reparam:
        x, log_prob = model.sample(n)
        return (beta * target.energy(x) + log_prob).mean()
    with torch.no_grad():
        draw = getattr(model, "configurations", None)
        x = draw(n) if draw else model.sample(n)[0]
    log_prob = model.log_prob(x)
    value = (beta * target.energy(x) + log_prob).detach()
    advantage = (value - value.mean()) * (n / max(1, n - 1))
    score = (advantage * log_prob).mean()
    return score - score.detach() + value.mean()


def variational(model: Any, batch: dict, progress: float) -> Tensor:
    """The free energy of the `count` samples of a batch, annealed while the model trains (its parameter `anneal`)."""
    beta = annealed(model.target.beta, progress, model.params.anneal if model.training else None)
    return free_energy(model, model.target, beta, batch["count"])


def energy_or_data(model: Any, batch: dict, progress: float) -> dict[str, Tensor]:
    """The loss of a model that learns from the energy (a batch with `count`) or from data (with `state`)."""
    if "count" in batch:
        return {"loss": variational(model, batch, progress)}
    return {"loss": nll(model, model.target.configurations(batch["state"]))}


def nll(model: Any, x: Tensor) -> Tensor:
    """−E_data[ln q] of configurations x (batch, …)."""
    needs(model, "exact", "nll")
    return -model.log_prob(x).mean()


def elbo(model: Any, x: Tensor) -> Tensor:
    """−⟨evidence lower bound⟩ of configurations x (batch, …): reconstruction and KL, nats per configuration."""
    needs(model, "lower_bound", "elbo")
    return -model.elbo(x).mean()


def iwae(model: Any, x: Tensor, count: int) -> Tensor:
    """−⟨importance-weighted bound⟩ of x (batch, …) with `count` latents of each; one has the mean of the ELBO."""
    needs(model, "lower_bound", "iwae")
    return -model.iwae(x, count).mean()


def cd(model: Any, x: Tensor, k: int, chains: Tensor | None = None) -> Tensor:
    """⟨ln p*⟩ after k Gibbs steps minus ⟨ln p*⟩ of the data x (batch, …): CD-k from the data, or PCD-k from `chains`.

    Its gradient is that of −⟨ln q⟩ as far as the steps forget where they began; `chains` (chain, …) move in place.
    """
    if not hasattr(model, "gibbs"):
        needs(model, "unnormalised", "cd")
    with torch.no_grad():
        fantasy = model.gibbs(x if chains is None else chains, k)
        if chains is not None:
            chains.copy_(fantasy)
    return model.log_unnormalised(fantasy).mean() - model.log_unnormalised(x).mean()


def vmc(psi: Any, hamiltonian: Hamiltonian, x: Tensor, weights: Tensor, shift: float) -> tuple[Tensor, dict]:
    """The energy of ψ over configurations x with `weights`, and its variance; its gradient is the direction of
    stochastic reconfiguration with the diagonal `shift` (see `quantum.vmc`)."""
    from ..quantum.vmc import energy

    if not hasattr(psi, "derivatives"):
        needs(psi, "state", "vmc")
    return energy(psi, x, weights, hamiltonian, shift)


def match(model: Any, x: Tensor, path: Path, coupling: Coupling = "independent") -> Tensor:
    """E|v(x_t, t) − u|², summed over variables, of `model.field` between its base and the data x (batch, …)."""
    if not hasattr(model, "field"):
        raise TypeError(
            f"match: needs a model with a velocity field, and {type(model).__module__} has none; "
            f"allowed for it: {ALLOWED.get(model.log_prob_kind, 'its own loss')}"
        )
    z = paths.paired(model.base(len(x)), x, coupling)
    return paths.residuals(model.field, z, x, paths.times(len(x), x), path).mean()
