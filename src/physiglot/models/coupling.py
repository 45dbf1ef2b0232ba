"""Real NVP and neural spline flows: couplings of two colours of the sites, after `flows`.

Real NVP: L. Dinh, J. Sohl-Dickstein, S. Bengio, arXiv 1605.08803; splines: C. Durkan et al., arXiv 1906.04032. On
lattices the coupling flow is the first of the models of M. S. Albergo, G. Kanwar, P. E. Shanahan, Phys. Rev. D 100,
034515 (2019), with networks that see the whole lattice.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from ..generative.flow_params import FlowParams
from ..generative.flows import Couplings, Flow, checkerboard
from ..targets import Target


class Params(FlowParams):
    couplings: int = Field(6, ge=1, description="couplings; the two colours of the sites take turns")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([32, 32], description="widths of the networks, one per layer")


class Model(Flow):
    """The exact density of a coupling flow over configurations of the shape of its target, which are real."""

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        given = params.model_dump(include={"univariate", "bins", "bound"})
        flow = Couplings(checkerboard(target.shape), params.couplings, params.hidden, **given)
        super().__init__(params, flow, mean, std, target)
