"""The Fourier neural operator as a one-step map of fields: the modern baseline. Needs the extra `operators`.

Li et al., arXiv 2010.08895 (2021), from the library `neuraloperator` of its authors (arXiv 2412.10354). It gives the
increment of the standardised fields from the fields and the parameters of the system, and is trained through its own
rollouts.
"""

from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..curriculum import Curriculum
from ..frames import beside, given
from ..strict import Strict


class Params(Strict):
    modes: list[Annotated[int, Field(ge=1)]] = Field(
        [12, 24], min_length=1, max_length=3, description="Fourier modes kept in each direction, the last is x"
    )
    width: int = Field(32, ge=1, description="hidden channels")
    layers: int = Field(4, ge=1, description="Fourier layers")
    periodic: bool = Field(False, description="a periodic box: no padding, and no coordinates among the inputs")
    padding: float = Field(0.125, ge=0, le=1, description="padding in units of the grid, where it is not periodic")
    parameters: int = Field(0, ge=0, description="parameters of the system, all positive, as constant input fields")
    rollout: Curriculum = Field(Curriculum(horizons=[1], shares=[1.0]), description="steps that the loss unrolls")

    @model_validator(mode="after")
    def _padding_of_a_box(self) -> Self:
        if self.periodic and "padding" in self.model_fields_set and self.padding:
            raise ValueError(f"padding {self.padding}: a periodic box has none")
        return self


def operator(params: Params, fields: int) -> nn.Module:
    """The network of the library. Raises ValueError if it is not installed."""
    try:
        from neuralop.models import FNO
    except ImportError:
        raise ValueError(
            "models.fno: the library neuraloperator is not installed: pip install 'physiglot[operators]'"
        ) from None
    return FNO(
        n_modes=tuple(params.modes),
        in_channels=fields + params.parameters,
        out_channels=fields,
        hidden_channels=params.width,
        n_layers=params.layers,
        domain_padding=None if params.periodic else params.padding,
        positional_embedding=None if params.periodic else "grid",
    )


class Model(nn.Module):
    """x⁺ = x + std(Δx) FNO(x̃, log ν). Its complex weights are kept as pairs of numbers, for the optimiser is real.

    The library computes in single precision.
    """

    mean: Tensor
    std: Tensor
    step: Tensor
    logs: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        logs = torch.stack([torch.zeros(params.parameters), torch.ones(params.parameters)])
        for name, value in {"mean": mean, "std": std, "step": 0.1 * std, "logs": logs}.items():
            self.register_buffer(name, value.clone())
        network = operator(params, len(mean))
        # In a list: its weights are ours, below, and not to be found twice.
        self._network = [network]
        self._complex = {name for name, p in network.named_parameters() if p.is_complex()}
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(_real(p.detach()).clone()) for name, p in network.named_parameters()}
        )

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The scale of the increments, and the mean and deviation of the logarithms of the parameters."""
        delta = data["smooth"].diff(dim=1)
        self.step.copy_(delta.transpose(0, 2).flatten(1).std(1).clamp(min=1e-6))
        if self.params.parameters:
            logs = self._given(data.get("parameters")).log()
            self.logs.copy_(torch.stack([logs.mean(0), logs.std(0, correction=0).clamp(min=1e-6)]))
        return {"step_over_std": float((self.step / self.std).mean())}

    def _given(self, parameters: Tensor | None) -> Tensor:
        return given(parameters, "fno", "parameters: 1 or more")[:, : self.params.parameters]

    def _column(self, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * len(self.params.modes))

    def advance(self, state: Tensor, parameters: Tensor | None) -> Tensor:
        """The states one step later, (batch, field[, z, y], x)."""
        x = (state - self._column(self.mean)) / self._column(self.std)
        if self.params.parameters:
            constant = (self._given(parameters).log() - self.logs[0]) / self.logs[1]
            constant = beside(constant, x.shape[:1]).view(*constant.shape, *[1] * len(self.params.modes))
            x = torch.cat([x, constant.to(x).expand(*constant.shape[:2], *x.shape[2:])], 1)
        return state + self._column(self.step) * self._apply_network(x.float()).to(state)

    def _apply_network(self, x: Tensor) -> Any:
        weights = {name.replace("/", "."): p.float() for name, p in self.weights.items()}
        for name in self._complex:
            weights[name] = torch.view_as_complex(weights[name])
        return torch.func.functional_call(self._network[0], weights, (x,))

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared error of rollouts in units of std; a window of T states holds (T - 1) // K of K steps."""
        states, parameters = batch["state"], batch.get("parameters")
        steps = min(self.params.rollout.horizon(progress), states.shape[1] - 1)
        count = (states.shape[1] - 1) // steps
        state = states[:, : count * steps : steps].flatten(0, 1)
        wanted = states[:, 1 : count * steps + 1].unflatten(1, (count, steps)).flatten(0, 1)
        if parameters is not None:
            parameters = parameters.repeat_interleave(count, 0)
        error = torch.zeros((), device=state.device)
        for i in range(steps):
            state = self.advance(state, parameters)
            error = error + ((state - wanted[:, i]) / self._column(self.std)).square().mean() / steps
        return {"loss": error, "horizon": torch.tensor(float(steps))}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field[, z, y], x) -> (member, steps, field…), index 0 the given start."""
        states = [start]
        for _ in range(steps - 1):
            states.append(self.advance(states[-1], parameters))
        return torch.stack(states, 1)


def _real(values: Tensor) -> Tensor:
    return torch.view_as_real(values) if values.is_complex() else values
