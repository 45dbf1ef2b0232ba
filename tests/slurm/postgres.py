"""A real PostgreSQL server of its own for tests, started without systemd, on a port of its own."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from workflow import wait_for

USER = "postgres"  # Debian's; the server does not run as root
DRIVER = "psycopg2"


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs, which Debian keeps out of PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(debian[-1]) if debian else shutil.which(name)


def missing() -> str | None:
    """Why no server can run here, or None."""
    if absent := [name for name in ("initdb", "postgres") if not program(name)]:
        return f"PostgreSQL is not installed ({', '.join(absent)}): apt-get install postgresql"
    if not importlib.util.find_spec(DRIVER):
        return f"{DRIVER} is not installed: pip install psycopg2-binary"
    if os.geteuid():
        return f"the server is started as the user {USER}, for which the tests must be root"
    return None


class Postgres:
    """An empty database at `uri`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="physiglot-postgres-"))
        shutil.chown(self.folder, USER)
        where = ["-D", str(self.folder / "data")]
        subprocess.run([program("initdb"), *where, "--auth=trust", "--no-sync"], user=USER, check=True, **self._quiet())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"postgresql+{DRIVER}://{USER}@127.0.0.1:{self.port}/postgres"
        options = ["-c", "listen_addresses=127.0.0.1", "-k", str(self.folder), "-p", str(self.port), "-F"]
        self.process = subprocess.Popen([program("postgres"), *where, *options], user=USER, **self._quiet())
        wait_for(self._answers, 30)

    def _quiet(self) -> dict:
        return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.folder, "env": {"LC_ALL": "C"}}

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """At once, with its connections."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        shutil.rmtree(self.folder)
