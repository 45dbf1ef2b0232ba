"""Neural renormalisation group: a flow wired like a real-space renormalisation, see `hierarchy`.

S.-H. Li, L. Wang, Phys. Rev. Lett. 121, 260601 (2018), arXiv 1802.02840. For L = 16 their code, `li012589/NeuralRG`,
has ten couplings per block with three layers of ten units, one repetition, and the mixture of both signs.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative.flow_params import FlowParams
from ..generative.flows import Flow
from ..generative.hierarchy import Hierarchy, scales
from ..targets import Target


class Params(FlowParams):
    couplings: int = Field(6, ge=1, description="couplings of a block of four sites (Li & Wang 2018: 10)")
    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        [16, 16], description="widths of their networks, one per layer (Li & Wang 2018: 10, 10, 10)"
    )
    repeat: int = Field(1, ge=1, description="pairs of layers at each scale (Li & Wang 2018: 1)")


class Model(Flow):
    """The exact density of a hierarchy of blocks over L × L lattices, L a power of two."""

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        if len(target.shape) != 2 or target.shape[0] != target.shape[1]:
            raise ValueError(f"shape {tuple(target.shape)}: the hierarchy of 2×2 blocks needs an L × L lattice")
        given = params.model_dump(include={"univariate", "bins", "bound", "repeat"})
        flow = Hierarchy(target.shape[0], params.couplings, params.hidden, **given)
        super().__init__(params, flow, mean, std, target)

    def stages(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Configurations (n, L, L) from the coarsest scale to the finest: noise of finer scales is at its mean."""
        size = self.target.shape[0]
        noise, scale = self.density.noise(n, generator), scales(size).to(self.mean.device)
        found, sign = {}, self.density.sign(n, generator)
        for finest in reversed(range(int(scale.max()) + 1)):
            kept = torch.where(scale >= finest, noise, self.params.shift)
            found[f"noise of {int((scale >= finest).sum())} sites"] = sign * self.density.push(kept)[0]
        return found
