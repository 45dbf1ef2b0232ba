"""A page in a headless Chromium, driven over its debugging pipe: no driver, no sockets, no network."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

from workflow import wait_for

PROGRAM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000 --remote-debugging-pipe"
)


class Page:
    """One page. `with Page(tmp_path) as page: page.open(url)`. It has no network: every other host is unknown."""

    def __init__(self, folder: Path):
        assert PROGRAM
        self.number, self.events = 0, []
        read, self.out = os.pipe()
        self.inp, write = os.pipe()
        own = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
        command = [PROGRAM, *FLAGS.split(), *own]
        shell = ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "chromium", *command, "about:blank"]
        with open(folder / "chromium.log", "wb") as log:
            self.process = subprocess.Popen(shell, pass_fds=(read, write), stdout=log, stderr=log)
        os.close(read)
        os.close(write)
        self.rest, self.session = b"", ""
        target = self.wait(lambda: next((t for t in self.targets() if t["type"] == "page"), None))
        found = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        os.close(self.out)
        os.close(self.inp)

    def targets(self) -> list[dict]:
        return self.call("Target.getTargets")["targetInfos"]

    def _message(self) -> dict:
        while b"\0" not in self.rest:
            data = os.read(self.inp, 1 << 20)
            assert data, "Chromium has gone: see chromium.log"
            self.rest += data
        text, _, self.rest = self.rest.partition(b"\0")
        return json.loads(text)

    def call(self, method: str, **params: object) -> dict:
        """The result of a DevTools command; events that come before it are kept in `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def wait(self, condition, seconds: float = 30) -> object:
        return wait_for(condition, seconds, every=0.1)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait(lambda: self.js("document.readyState") == "complete")

    def js(self, expression: str) -> object:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        return self.js("document.body.innerText")

    def click(self, label: str) -> None:
        """Click the innermost visible element with exactly this text; wait until there is one."""
        find = (
            f"[...document.querySelectorAll('body *')].filter(e => e.innerText?.trim() === {json.dumps(label)}"
            " && e.getClientRects().length).pop()"
        )
        self.wait(lambda: self.js(f"!!{find}"))
        self.js(f"{find}.click()")

    def fetched(self) -> list[str]:
        """Every address that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def problems(self) -> list[str]:
        """Uncaught errors and errors in the console."""
        thrown = [e["params"]["exceptionDetails"] for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        logged = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        return [t.get("exception", t).get("description", str(t)) for t in thrown] + [
            entry["text"] for entry in logged if entry["level"] == "error"
        ]

    def pixels(self) -> bytes:
        """What is to be seen now, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(self.pixels())
