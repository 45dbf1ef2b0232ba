"""Every system and model, found by its file, keeps the contract of docs/design.md.

Tasks: test_task_contracts; models that draw samples: test_sampling_contracts.
"""

import inspect
from functools import cache
from importlib import import_module
from pathlib import Path

import annotated_types
import numpy as np
import pytest
import synthetic
import torch
import xarray as xr
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from physiglot import batches, checkpoint, models, moments, store, train
from physiglot.config import Training
from physiglot.symbols import PACKAGE

STEPS = 64
# The data on which a model is tried: a system and the parameters that make it small. All others are tried on Lorenz.
SYSTEMS = {
    "lorenz": {"steps": STEPS},
    "ising": {"size": 8, "store": "none"},
    "patterns": {"sites": 12, "steps": 16},
    "gray_scott": {"grid": 8, "average": 1, "dx": 1.75, "cube": 4, "steps": 12, "extinct": 0.0},
}
MADE = {"wake": synthetic.wake, "waves": synthetic.waves}
PHASES = ("phase_transformer", "phase_bilstm", "phase_cnn", "phase_fcn", "flip_logistic")
READ = (*PHASES, "confusion", "time_average")
WAKE = ("koopman_cylinder", "pca", "conv_lstm", "fno")
MAPS = ("local_law", "stencil_map", "field_transformer")
DATA = {
    "koopman_gray_scott": "waves",
    **dict.fromkeys(WAKE, "wake"),
    **dict.fromkeys(READ, "ising"),
    "hopfield": "patterns",
    **dict.fromkeys(MAPS, "gray_scott"),
}
SMALL = {
    "koopman_cylinder": {"grid": [16, 32], "width": 4},
    "koopman_gray_scott": {"grid": [8, 8, 8], "width": 4, "channels": 8},
    "conv_lstm": {"width": 8, "parameters": 1},
    "fno": {"modes": [4, 4], "width": 8, "layers": 2, "parameters": 1},
    "pca": {"grid": [16, 32], "modes": 8, "degree": 1},
    **{name: {"quantity": "real", "series": 2} for name in PHASES},
    "confusion": {"series": 2},
    "stencil_map": {"width": 8},
    "field_transformer": {"width": 16, "features": 4, "heads": 2, "channels": 2, "hidden": 8},
    "echo_state": {"units": 40, "density": 0.2, "tune_steps": 16, "tune_series": 4, "series": 8},
}
ALLOWED = {torch.ops.aten.index.Tensor, torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
WINDOW = {"window": 16, "stride": 16, "batch": 4, "steps": 2}


def found(kind: str) -> list[str]:
    return sorted(p.stem for p in (PACKAGE / kind).glob("*.py") if p.stem != "__init__")


def load(kind: str, name: str):
    return import_module(f"physiglot.{kind}.{name}")


def beyond(bound: object) -> float | None:
    """A value just outside of a bound."""
    if isinstance(bound, annotated_types.Gt):
        return bound.gt
    if isinstance(bound, annotated_types.Ge):
        return bound.ge - 1
    if isinstance(bound, annotated_types.Lt):
        return bound.lt
    if isinstance(bound, annotated_types.Le):
        return bound.le + 1
    return None


@pytest.mark.parametrize(
    "kind, name", [(kind, name) for kind in ("systems", "models", "tasks") for name in found(kind)]
)
def test_parameters_are_strict_and_bounded(kind, name):
    params = load(kind, name).Params
    assert params.model_config["extra"] == "forbid" and params.model_config["strict"] and params.model_config["frozen"]
    asked = {"rollouts", "readings", "samples"} & set(params.model_fields)
    given = {key: {} for key in asked} if kind == "tasks" else {}
    params(**given)
    with pytest.raises(ValidationError):
        params(**given, no_such_parameter=1)
    bounds = [(n, beyond(b)) for n, f in params.model_fields.items() for b in f.metadata if beyond(b) is not None]
    for field, value in bounds:
        integer = params.model_fields[field].annotation in (int, int | None)
        with pytest.raises(ValidationError, match=field):
            params(**given, **{field: int(value) if integer else float(value)})
    numbers = [n for n, f in params.model_fields.items() if f.annotation in (int, float)]
    assert set(numbers) <= {field for field, _ in bounds}, "a number without a bound"


# --- systems -----------------------------------------------------------------------------------


@pytest.fixture(params=[name for name in found("systems") if hasattr(load("systems", name), "simulate")])
def system(request):
    return load("systems", request.param)


def simulated(system, seed: int, members: int = 3) -> xr.Dataset:
    short = {"steps": 16} if "steps" in system.Params.model_fields else {}
    return system.simulate(system.Params(**short), members, np.random.default_rng(seed))


def test_a_system_gives_a_described_state(system):
    data = simulated(system, 0)
    assert data["state"].dims[:3] == ("member", "time", "field")
    assert data["state"].dims[3:] in ((), ("x",), ("y", "x"), ("z", "y", "x"))
    assert data.sizes["member"] == 3
    assert np.isfinite(data["state"].values).all()
    assert data["state"].attrs["units"] and "units" in data["time"].attrs
    assert data["field"].dtype.kind == "U" and np.all(np.diff(data["time"].values) > 0)


def test_a_system_is_reproducible_from_its_seed(system):
    one, two, other = simulated(system, 5), simulated(system, 5), simulated(system, 6)
    assert one.identical(two)
    assert not np.array_equal(one["state"].values, other["state"].values)


def test_every_parameter_of_a_system_says_what_it_is(system):
    assert all(f.description for f in system.Params.model_fields.values())


# --- models ------------------------------------------------------------------------------------


def simulator(name: str):
    system = load("systems", name)
    return lambda members, rng: system.simulate(system.Params(**SYSTEMS[name]), members, rng)


class Data:
    """A finished dataset of eight short series of a system, as the stage writes it."""

    def __init__(self, name: str, folder: Path):
        make = MADE.get(name) or simulator(name)
        drawn = {s: np.random.default_rng(i) for i, s in enumerate(("train", "val", "test"))}
        splits = {s: make(8, rng) for s, rng in drawn.items()}
        count, mean, squares = moments.of(splits["train"]["state"].values)
        std = np.sqrt(squares / count)
        self.path = folder / f"{name}.zarr"
        store.save(self.path, splits, chunk=4, mean=mean.tolist(), std=std.tolist())
        self.statistics = {"mean": torch.tensor(mean.tolist()), "std": torch.tensor(std.tolist())}

    def starts(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Four states to start from, and the parameters of their series."""
        data = store.open_group(self.path, "test").isel(member=slice(4))
        given = torch.as_tensor(data["parameters"].values) if "parameters" in data else None
        return torch.as_tensor(data["state"].isel(time=3).values, dtype=torch.float64), given

    def series(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        data = store.open_group(self.path, "test").isel(member=slice(4))
        return torch.as_tensor(data["state"].values, dtype=torch.float64), self.starts()[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """System -> its small dataset, made once."""
    return cache(lambda name: Data(name, tmp_path_factory.mktemp("contracts")))


@pytest.fixture(scope="module")
def dataset(data) -> Path:
    return data("lorenz").path


@pytest.fixture(scope="module")
def statistics(data) -> dict:
    return data("lorenz").statistics


@pytest.fixture(scope="module")
def embedding(statistics):
    torch.manual_seed(0)
    made = models.build({"module": "koopman", "params": {"channels": 8, "width": 16}}, **statistics)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def embedded(dataset, embedding, tmp_path_factory) -> Path:
    """The dataset as the frozen embedding sees it, as the stage writes it."""
    groups = {}
    for split in ("train", "val"):
        state = torch.as_tensor(store.open_group(dataset, split)["state"].values, dtype=torch.float32)
        groups[split] = xr.Dataset({"embedded": (("member", "time", "channel"), embedding.embed(state).numpy())})
    path = tmp_path_factory.mktemp("contracts") / "embedded.zarr"
    store.save(path, groups, chunk=4, embedding="f")
    return path


def needs_embedding(name: str) -> bool:
    """A model that cannot do without an embedding takes it as an argument without a default."""
    return inspect.signature(load("models", name).Model).parameters["embedding"].default is inspect.Parameter.empty


class Trained:
    """A model of its own default parameters that has been fitted and has taken two steps."""

    def __init__(self, name: str, dataset: Path, embedded: Path, embedding, statistics: dict):
        training = Training(
            **{**WINDOW, "window": min(WINDOW["window"], store.open_group(dataset, "train").sizes["time"])}
        )
        part, training = {"module": name, "params": SMALL.get(name, {})}, training.model_dump()
        embedded = embedded if needs_embedding(name) else None
        torch.manual_seed(0)
        self.model = models.build(part, **statistics, embedding=embedding if embedded else None)
        train.fit(self.model, dataset, embedded)
        self.before = {k: v.clone() for k, v in self.model.state_dict().items()}
        data, val = (batches.open_split(dataset, embedded, s, training, 0, "cpu") for s in ("train", "val"))
        snapshots = checkpoint.Snapshots(dataset.parent / "ckpt", "", "")
        self.loop = train.Loop(self.model.train(), data, val, training, 0, snapshots)
        self.learns = any(p.requires_grad for p in self.model.parameters())
        self.losses = [self.loop.advance() for _ in range(2)] if self.learns else [self.model.loss(data.at(0))]
        self.validation = self.loop.validate()
        self.loop.finish()
        self.model.eval()


def predicts(name: str) -> bool:
    """Whether a model answers to series; those that draw samples are in test_sampling_contracts."""
    return any(hasattr(load("models", name).Model, method) for method in ("predict", "read"))


@pytest.fixture(scope="module", params=[name for name in found("models") if predicts(name)])
def trained(request, data, embedded, embedding) -> Trained:
    if request.param == "fno":
        pytest.importorskip("neuralop", reason="the extra `operators` is not installed")
    own = data(DATA.get(request.param, "lorenz"))
    return Trained(request.param, own.path, embedded, embedding, own.statistics)


@pytest.fixture
def own(trained, data) -> Data:
    """The data on which the model was trained."""
    return data(DATA.get(trained.model.part["module"], "lorenz"))


def answers(model, own: Data, steps: int = 20, dtype=torch.float64) -> dict[str, torch.Tensor]:
    """What a model predicts from four states, or what it reads in four series."""
    with torch.inference_mode():
        if hasattr(model, "predict"):
            start, given = own.starts()
            beside = models.side(model.predict, None if given is None else given.to(dtype))
            return {"prediction": model.predict(start.to(dtype), steps, **beside)}
        state, given = own.series()
        return model.read(state.to(dtype), **models.side(model.read, None if given is None else given.to(dtype)))


def test_a_model_trains_two_steps(trained):
    for losses in trained.losses:
        assert all(torch.isfinite(value).all() and value.numel() == 1 for value in losses.values())
    assert np.isfinite(trained.validation["val_loss"])
    after = trained.model.state_dict()
    changed = {name for name, value in trained.before.items() if not torch.equal(after[name], value)}
    assert bool(changed) == trained.learns
    assert not any(name.startswith("embedding.") for name in changed)


def test_a_model_is_reproducible_from_its_seed(trained, own, embedded, embedding):
    again = Trained(trained.model.part["module"], own.path, embedded, embedding, own.statistics).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in trained.model.state_dict().items())


def test_a_model_predicts_or_reads(trained, own, tmp_path):
    """In float64; a prediction from the given state, for any number of steps; a reading for each member."""
    models.save(tmp_path / "weights.pt", trained.model)
    model, start = models.load(tmp_path / "weights.pt").double(), own.starts()[0]
    assert hasattr(model, "predict") != hasattr(model, "read")
    for steps in (1, 2, 40) if hasattr(model, "predict") else (1,):
        for name, values in answers(model, own, steps).items():
            assert values.dtype == torch.float64 and len(values) == 4
            if name == "prediction":
                assert values.shape == (4, steps, *start.shape[1:])
                assert torch.equal(values[:, 0], start)
            else:
                assert torch.isfinite(values).all()


def test_a_model_survives_saving(trained, own, tmp_path):
    models.save(tmp_path / "weights.pt", trained.model)
    loaded = models.load(tmp_path / "weights.pt")
    assert loaded.state_dict().keys() == trained.model.state_dict().keys()
    assert not loaded.training
    ours, theirs = (answers(m.float(), own, dtype=torch.float32) for m in (trained.model, loaded))
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())


def test_an_embedding_decodes_what_it_embeds(trained, own):
    if not hasattr(trained.model, "embed"):
        return
    model, (states, given) = trained.model, own.starts()
    given = None if given is None else given.float()
    z = model.embed(states.float(), **models.side(model.embed, given))
    assert z.shape == (4, model.channels)
    assert model.decode(z, **models.side(model.decode, given)).shape == states.shape


class OneDevice(TorchDispatchMode):
    """Refuses what a GPU refuses: tensors of two devices in one operation, but for single numbers and indices."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        flat = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor) and x.ndim]
        if func not in ALLOWED and len({x.device for x in flat}) > 1:
            raise RuntimeError(f"{func}: tensors on {sorted({x.device.type for x in flat})}")
        return func(*args, **(kwargs or {}))


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model on a device without values, its sparse matrices dense: there are none there."""
    for name, buffer in list(model.named_buffers(recurse=False)):
        if buffer.layout != torch.strided:
            setattr(model, name, buffer.to_dense())
    return model.to("meta", torch.float32)


def test_a_model_computes_on_one_device(trained, own, embedded, tmp_path):
    """Where it has been moved to all that it needs is there, in training as in use; who asks for a value is let go."""
    models.save(tmp_path / "weights.pt", trained.model)
    model, predicts = moved(models.load(tmp_path / "weights.pt")), hasattr(trained.model, "predict")
    state, given = own.starts() if predicts else own.series()
    given = None if given is None else given.to("meta", torch.float32)
    state, beside = state.to("meta", torch.float32), models.side(model.predict if predicts else model.read, given)
    batch = {k: v.to("meta") for k, v in trained.loop.data.at(0).items()}
    with OneDevice():
        for ask in (
            lambda: model.predict(state, 6, **beside) if predicts else model.read(state, **beside),
            lambda: model.train().loss(batch, 1.0),
        ):
            try:
                ask()
            except (NotImplementedError, RuntimeError) as error:
                assert "meta tensor" in str(error), error
