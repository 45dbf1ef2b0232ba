"""What of a run record goes into MLflow, within its limits: names, parameters and tags."""

import json
import posixpath
import re
from typing import Any

from .. import fingerprint
from .records import Record

MOST_INPUTS = 50
ABOUT = ("paper", "study", "seed", "part", "system", "dataset", "split", "bundle", "file", "variant", "label")


def name_of(key: str) -> str:
    """`key` as MLflow allows the names of parameters and metrics."""
    name = re.sub(r"[^\w.\- :/]", "_", key)[:250]
    return name if name and posixpath.normpath(name) == name and name[0] not in "./" else re.sub(r"^$|/|^\.", "_", name)


def flat(spec: Any, prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}, "c": [1]}` -> `{"a.b": "1", "c": "[1]"}`, values cut to MLflow's 6000 characters."""
    if isinstance(spec, dict) and spec:
        parts = [flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in spec.items()]
        return {key: value for part in parts for key, value in part.items()}
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return {name_of(prefix): text if len(text) <= 6000 else text[:5999] + "…"} if prefix else {}


def tags_of(record: Record) -> dict[str, str]:
    """What a run is searched by. `input.<n>` and `output` are fingerprints, and link the runs; a simulation, which
    makes many blocks, has a tag `block.<fingerprint>` for each."""
    data = record.data
    tags = {"physiglot.id": record.id, "stage": record.stage, "status": record.status, "start": record.start}
    tags |= {key: record.about.get(key, "") for key in ABOUT}
    tags |= {key: data.get(key, "") for key in ("code", "git", "host", "slurm_job_id", "error")}
    tags |= {"spec": fingerprint.digest(fingerprint.canonical(data.get("spec", {})))}
    tags |= {"output": data.get("fingerprint", ""), "output.path": record.output}
    tags |= {"mlflow.source.name": f"physiglot.{record.stage}"}
    tags |= {f"block.{value}": path for path, value in list(record.blocks().items())[:MOST_INPUTS]}
    inputs = record.inputs()
    for n, (path, value) in enumerate(inputs.items() if len(inputs) <= MOST_INPUTS else ()):
        tags |= {f"input.{n}": value, f"input.{n}.path": path}
    return {key: str(value)[:5000] for key, value in tags.items() if value not in ("", None)}
