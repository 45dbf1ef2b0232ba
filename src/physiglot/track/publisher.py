"""Publish what a project has to a store that may have some of it already."""

from pathlib import Path

from . import ledger
from .ledger import Ledger, TrackingError
from .records import Record
from .writer import Store

DEFAULT = "sqlite:///mlflow.db"


def resolve(uri: str, root: Path) -> str:
    """The URI with the path of a SQLite file made absolute: it is relative to the project."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{root.absolute() / path}"


def _reach(uri: str) -> None:
    """Raises the database's own error if it does not answer: MLflow would ask again for minutes."""
    import sqlalchemy

    sqlalchemy.create_engine(uri).connect().close()


def _there(uri: str, names: list[str], root: Path) -> dict[str, str]:
    """Name -> identity of the experiments that the store has."""
    if uri.startswith("sqlite:///"):
        return ledger.in_sqlite(Path(uri.removeprefix("sqlite:///")))
    if uri.startswith("http"):
        return ledger.on_server(uri, names)
    _reach(uri)
    store = Store(uri, root)
    return {name: store.identity(name) or "" for name in names}


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _put(store: Store, record: Record, book: Ledger, stamp: list[int]) -> None:
    before = book.of(record)
    store.put(record)
    if before and before["status"] == "RUNNING" and before["id"] != record.id:
        store.abandon(before["id"], before["experiment"])
    book.add(record, stamp)


def _put_all(todo: list[tuple[Record, list[int]]], book: Ledger, uri: str) -> None:
    """Publish what can be published, giving up after three failures in a row."""
    store, failures, row = Store(uri, book.root), [], 0
    for record, stamp in todo:
        try:
            _put(store, record, book, stamp)
            row = 0
        except Exception as error:
            failures.append(f"{record.path}: {first_line(error)}")
            row += 1
        if row == 3:
            break
    book.experiments.update(store.identities)
    if failures:
        raise TrackingError(f"{len(failures)} of {len(todo)} runs could not be published ({failures[0]})")


def publish(root: Path = Path("."), uri: str = DEFAULT, wait: float = 60) -> int:
    """Publish every run record under `root` that the store lacks; returns how many. Raises TrackingError."""
    root = Path(root)
    uri = resolve(uri, root)
    local = uri.startswith("sqlite:///")
    lock = Path(uri.removeprefix("sqlite:///") + ".lock") if local else root / ".physiglot" / "publish.lock"
    with ledger.locked(lock, wait):
        book = Ledger(root, uri)
        book.check(_there(uri, list(book.experiments), root))
        todo = list(book.changed())
        try:
            if todo:
                _put_all(todo, book, uri)
        finally:
            book.save()
    return len(todo)
