"""What the SLURM tests share: how Snakemake is called, and what a project has made."""

import json

import torch
from workflow import Project

SLURM = ["--profile", "slurm", "--seconds-between-status-checks", "2", "--latency-wait", "10"]
WEIGHTS = "runs/lorenz_faithful/0/model/weights.pt"
TRAIN = "train/lorenz_faithful/0/model"
DECAY = "data/decay/datasets/clean.zarr/zarr.json"


def stores(project: Project) -> dict[str, bytes]:
    """Every file of every block and data set."""
    found = (p for p in (project.folder / "data").rglob("*") if p.is_file() and ".zarr/" in str(p))
    return {str(p.relative_to(project.folder)): p.read_bytes() for p in found}


def weights(project: Project) -> dict[str, torch.Tensor]:
    return torch.load(project.folder / WEIGHTS, weights_only=True)["state"]


def steps(project: Project) -> list[int]:
    """The logged steps of the training."""
    path = project.folder / WEIGHTS.replace("weights.pt", "weights.metrics.jsonl")
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def job_of(project: Project, name: str) -> str | None:
    """The SLURM job in which a stage is running now."""
    record = project.records().get(name, {})
    return record["slurm_job_id"] if record.get("status") == "RUNNING" else None
