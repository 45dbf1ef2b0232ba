"""The renormalisation flow learns the critical Ising model from its action; the report tells when it did not."""

import numpy as np
import pytest
import torch

from physiglot import batches, checkpoint, models, targets, train
from physiglot.config import Training
from physiglot.generative.report import Drawn, report
from physiglot.systems import ising_dual

TARGET = {"module": "ising_dual", "params": {"size": 4}}


def trained(folder, steps: int, **params):
    training = Training(source="energy", batch=128, steps=steps, lr=1e-2, clip=10.0, schedule="cosine").model_dump()
    torch.manual_seed(0)
    zero = torch.zeros(4, 4)
    model = models.build({"module": "nnrg", "params": params}, zero, zero + 1, target=TARGET).train()
    snapshots = checkpoint.Snapshots(folder, "", "")
    loop = train.Loop(model, batches.Counts(128), batches.Counts(128), training, 0, snapshots)
    while loop.step < steps:
        loop.advance()
    loop.finish()
    return model.eval()


@torch.no_grad()
def reported(model, data, known: bool = True) -> dict:
    """The report of 10,000 samples beside configurations of the target; without its exact values if not `known`."""
    target = targets.build(TARGET)
    if not known:
        target.exact_logZ = lambda beta=None: None
    x, log_prob = model.sample(10_000, torch.Generator().manual_seed(1))
    reference = target.configurations(torch.from_numpy(data["state"].values))
    shape = data["state"].shape[:2]
    return report(
        Drawn(
            x=x,
            energy=target.energy(x.double()).numpy(),
            log_prob=log_prob.numpy(),
            kind=model.log_prob_kind,
            reference_energy=target.energy(reference).numpy().reshape(shape),
            reference_log_prob=model.log_prob(reference).numpy().reshape(shape),
        ),
        target,
    )


@pytest.fixture(scope="module")
def data():
    return ising_dual.simulate(ising_dual.Params(size=4, steps=4, sweeps=10), 1000, np.random.default_rng(3))


def test_both_modes_are_found_with_the_mixture(data, tmp_path):
    found = reported(trained(tmp_path, 400, z2=True, anneal=0.2), data)
    exact = targets.build(TARGET).exact_logZ()
    assert found["lnZ_q"] - 4 * found["lnZ_q_stderr"] < exact < found["lnZ_upper"] + 4 * found["lnZ_upper_stderr"]
    assert 0 < found["gap_per_site"] < 0.03
    assert found["converged"] == 1.0
    assert (
        abs(found["lnZ_rw_z"]) < 4 and abs(found["spin_energy_rw_z"]) < 4 and abs(found["spin_energy_metropolis_z"]) < 4
    )


def test_a_lost_mode_does_not_pass_for_converged(data, tmp_path):
    """Half of Z is ln 2: the samples alone look good, the exact value and the bracket each tell."""
    model = trained(tmp_path, 200, z2=False, shift=2.0)
    found = reported(model, data)
    assert float((model.sample(1000)[0].mean((1, 2)) > 0).double().mean()) in (0.0, 1.0)
    assert found["ess"] > 0.2 and found["khat"] < 0.7
    assert found["lnZ_exact"] - found["lnZ_rw"] == pytest.approx(np.log(2), abs=0.15)
    assert found["converged"] == 0.0
    assert reported(model, data, known=False)["converged"] == 0.0
