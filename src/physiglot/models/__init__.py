"""What is trained: one module per model, found by its name. Weights are self-describing."""

import inspect
import io
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import files


def build(part: dict, mean: Any, std: Any, embedding: Any = None) -> Any:
    """The model `part["module"]` with `part["params"]`, for data of this mean and standard deviation per field."""
    module = import_module(f"physiglot.models.{part['module']}")
    model = module.Model(module.Params(**part["params"]), mean=mean, std=std, embedding=embedding)
    model.part = part
    return model


def side(method: Any, parameters: Any) -> dict[str, Any]:
    """`parameters` (member, parameter) as the argument of a model's method, if the data have them and it wants them."""
    wanted = parameters is not None and "parameters" in inspect.signature(method).parameters
    return {"parameters": parameters} if wanted else {}


def save(path: Path, model: Any) -> None:
    """Write parameters and weights; the frozen embedding goes with the model that uses it."""
    import torch

    part = {k: model.part[k] for k in ("module", "params")}
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
    model = build(part, mean, std, embedding)
    model.load_state_dict(state)
    return model.eval()
