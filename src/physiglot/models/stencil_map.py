"""A circular convolution to the increment of a field: the small control that any model of periodic fields must beat."""

from pydantic import Field
from torch import Tensor, nn

from ..curriculum import Curriculum
from ..field_map import FieldMap, zeroed
from ..strict import Strict


class Params(Strict):
    width: int = Field(64, ge=1, description="channels of both hidden layers; 64 give 7,810 parameters for 2 fields")
    augment: bool = Field(True, description="random symmetries of the cube and periodic shifts of the training windows")
    rollout: Curriculum = Field(
        Curriculum(horizons=[1, 2, 4], shares=[0.4, 0.3, 0.3]), description="steps that the loss unrolls"
    )


class Model(FieldMap):
    """x⁺ = x + std(Δ) · C(x̃), C a circular 3³ convolution and two 1³ ones with SiLU between them; zero at first."""

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        fields, width = len(mean), params.width
        self.net = nn.Sequential(
            nn.Conv3d(fields, width, 3, padding=1, padding_mode="circular"),
            nn.SiLU(),
            nn.Conv3d(width, width, 1),
            nn.SiLU(),
            zeroed(nn.Conv3d(width, fields, 1)),
        )

    def step(self, state: Tensor, memory: None) -> Tensor:
        return state + self.cells(self.scale, state) * self.net(self.standardised(state))
