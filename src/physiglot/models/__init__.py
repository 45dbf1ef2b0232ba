"""What is trained: one module per model, found by its name. Weights are self-describing."""

import inspect
import io
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import files, targets


def build(part: dict, mean: Any, std: Any, embedding: Any = None, target: dict | None = None) -> Any:
    """The model `part["module"]` with `part["params"]`, for data of this mean and standard deviation per field.

    A model that has an argument `target` gets the target of the system (`target`: module, params).
    """
    module = import_module(f"physiglot.models.{part['module']}")
    given = {"mean": mean, "std": std, "embedding": embedding}
    if target is not None and "target" in inspect.signature(module.Model).parameters:
        given["target"], part = targets.build(target), {**part, "target": target}
    model = module.Model(module.Params(**part["params"]), **given)
    model.part = part
    return model


def draw(model: Any, target: Any, count: int, generator: Any) -> dict[str, Any]:
    """What a model draws that has no `draw` of its own: `x` (sample, …), `log_prob` if it has one, `energy`; float64.

    Spins stay whole numbers: they are int8.
    """
    x, log_prob = model.sample(count, generator)
    known = {} if model.log_prob_kind == "unnormalised" or log_prob is None else {"log_prob": log_prob.double()}
    return {"x": x.to(dtype=_int8()) if target.support == "spin" else x, **known, "energy": target.energy(x.double())}


def _int8() -> Any:
    import torch

    return torch.int8


def side(method: Any, parameters: Any) -> dict[str, Any]:
    """`parameters` (member, parameter) as the argument of a model's method, if the data have them and it wants them."""
    wanted = parameters is not None and "parameters" in inspect.signature(method).parameters
    return {"parameters": parameters} if wanted else {}


def save(path: Path, model: Any) -> None:
    """Write parameters and weights; the frozen embedding goes with the model that uses it."""
    import torch

    part = {k: model.part[k] for k in ("module", "params", "target") if k in model.part}
    embedding = getattr(model, "embedding", None)
    if embedding is not None:
        part["embedding"] = {k: embedding.part[k] for k in ("module", "params")}
    buffer = io.BytesIO()
    torch.save({"part": part, "state": model.state_dict()}, buffer)
    files.write(path, buffer.getvalue())


def load(path: Path) -> Any:
    """The model written by `save`, in evaluation mode. Raises ValueError if the file is not one."""
    import torch

    try:
        content = torch.load(path, weights_only=True)
        part, state = content["part"], content["state"]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: not weights that physiglot wrote ({type(error).__name__})") from None
    mean, std = state["mean"], state["std"]
    embedding = build(part["embedding"], mean, std) if "embedding" in part else None
    model = build(part, mean, std, embedding, part.get("target"))
    model.load_state_dict(state)
    return model.eval()
