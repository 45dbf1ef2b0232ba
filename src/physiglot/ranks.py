"""Several processes that train one model together, one per GPU: who they are, and how they agree.

A rank holds the whole model and takes its share of the windows of every batch; the mean of the gradients over the
ranks is the gradient of one process. `physiglot.launch` or torchrun starts the ranks.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

ARRIVE, ANSWER = 300.0, 7200.0  # seconds: until all ranks are there; the longest that one works by itself (a fit)

_share = (0, 1)


def normal(like: Any) -> Any:
    """Standard normal numbers like `like` (window, …): this rank's share of what one process draws for all windows."""
    import torch

    rank, size = _share
    if size == 1:
        return torch.randn_like(like)
    return torch.randn(size, *like.shape, dtype=like.dtype, device=like.device)[rank]


@contextmanager
def alone() -> Iterator[None]:
    """Within, the windows are all of them and not a share."""
    global _share
    kept, _share = _share, (0, 1)
    try:
        yield
    finally:
        _share = kept


@dataclass(frozen=True)
class Ranks:
    """Rank `rank` of `size`, number `local` of its node. A single one waits for nobody and imports nothing."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls) -> "Ranks":
        """As torchrun or our launcher has it; a single process of a SLURM job is not one of many."""
        launched, given = os.environ.get("PHYSIGLOT_RANKS"), os.environ
        if "TORCHELASTIC_RUN_ID" in given or (launched and "RANK" in given):
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        elif launched:
            names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
        else:
            return cls()
        try:
            ranks = cls(*(int(given[name]) for name in names))
        except (KeyError, ValueError):
            raise ValueError(f"{', '.join(names)}: not all are set: start with python -m physiglot.launch") from None
        if launched and int(launched) != ranks.size:
            raise ValueError(f"PHYSIGLOT_RANKS: {launched}, but {names[1]} is {ranks.size}")
        return ranks

    def share(self, batch: int, windows: int) -> slice:
        """The part of a batch of `windows` windows that is this rank's."""
        if windows % self.size:
            raise ValueError(
                f"training.batch: {batch}: a batch of {windows} windows does not divide among {self.size} ranks; "
                f"allowed are multiples of {self.size}"
            )
        part = windows // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def start(self, patience: float = ARRIVE) -> str:
        """Meet the other ranks; returns the device of this one. Raises ValueError if a rank does not arrive.

        GPUs talk by NCCL where every rank has one of its own; everything else goes by gloo, through the CPU.
        """
        import torch

        cuda = torch.cuda.is_available()
        if self.size == 1:
            return "cuda" if cuda else "cpu"
        import torch.distributed as dist

        global _share
        index = self.local % max(1, torch.cuda.device_count())
        gpu = str(torch.cuda.get_device_properties(index).uuid) if cuda else ""
        address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
        serves = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        wait = timedelta(seconds=patience)
        try:
            store = dist.TCPStore(address, int(port), None, serves, wait, wait_for_workers=False)
            store.set(f"rank {self.rank}", gpu)
            store.wait([f"rank {i}" for i in range(self.size)], wait)
        except (dist.DistError, ValueError) as error:
            raise ValueError(
                f"rank {self.rank} of {self.size} waited in vain for the others at {address}:{port}: "
                f"{str(error).splitlines()[0]}"
            ) from None
        gpus = {store.get(f"rank {i}") for i in range(self.size)}
        backend = "cpu:gloo,cuda:nccl" if b"" not in gpus and len(gpus) == self.size else "gloo"
        if cuda:
            torch.cuda.set_device(index)
        with self._together():
            answer = timedelta(seconds=ANSWER)
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=answer)
        _share = self.rank, self.size
        return f"cuda:{index}" if cuda else "cpu"

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition(". ")[0].splitlines()[0]
            raise ValueError(
                f"rank {self.rank} of {self.size} lost another rank, which failed or was killed; "
                f"run again to go on from the last saved state ({reason})"
            ) from error

    def mean_(self, tensor: Any) -> None:
        """Replace a tensor by its mean over the ranks."""
        if self.size > 1:
            import torch.distributed as dist

            with self._together():
                dist.all_reduce(tensor)
            tensor.div_(self.size)

    def largest(self, value: int) -> int:
        """The largest value of all ranks."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        found = torch.tensor(value)
        with self._together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def same(self, value: Any) -> Any:
        """The value of rank 0 (what `torch.save` takes), its tensors on the CPU of the other ranks."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        buffer = io.BytesIO()
        if self.rank == 0:
            torch.save(value, buffer)
        found: list[Any] = [buffer.getvalue()]
        with self._together():
            dist.broadcast_object_list(found, device=torch.device("cpu"))
        return torch.load(io.BytesIO(found[0]), map_location="cpu", weights_only=True) if self.rank else value

    def close(self) -> None:
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


ONE = Ranks()
