"""Publish run records to MLflow, follow a running stage, and trace an output back to its blocks.

The run records are the truth and MLflow is a copy of them: a run is found again by its tag `physiglot.id`, a
point of a metric by its step, so that publishing can be repeated, interrupted, or started over on an empty
store. Nothing here can fail a job, and `writer` alone imports mlflow, when it has something to write.
"""

from .ancestry import Link, lineage
from .follower import follow
from .ledger import TrackingError
from .publisher import publish

__all__ = ["Link", "TrackingError", "follow", "lineage", "publish"]
