"""Drive a headless Chromium by its DevTools protocol, over pipes: no port, no further package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

INSTALL = "scripts/install_test_tools.sh installs it on Debian"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)
VIRTUAL_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Delete": 46}  # that do something of their own


def find_chromium() -> str:
    """The program's path. Raises FileNotFoundError where there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(f"no Chromium: looked for {', '.join(NAMES)}; {INSTALL}")


class Chromium:
    """One page in a browser of its own; a context manager that ends it.

    requests: URLs that the page asked for.    complaints: errors and warnings in its console, exceptions.
    """

    def __init__(
        self, width: int = 1440, height: int = 900, *, flags: tuple[str, ...] = (), timeout_s: float = 120.0
    ) -> None:
        program = find_chromium()
        self._timeout_s, self._next_id = timeout_s, 0
        self._waiting = b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [program, *FLAGS, *flags, f"--user-data-dir={self._profile.name}"]
        self._browser = subprocess.Popen(  # it reads commands from 3 and writes answers to 4
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._session: str | None = None
        self._attach(width, height)

    def _attach(self, width: int, height: int) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.terminate()
        try:
            self._browser.wait(10)
        except subprocess.TimeoutExpired:
            self._browser.kill()
            self._browser.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """The answer to a command of the protocol. Raises RuntimeError for an error."""
        self._next_id += 1
        message: dict[str, object] = {"id": self._next_id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._send(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(f"the answer to {method}")
            if answer.get("id") == self._next_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _send(self, content: bytes) -> None:
        while content:
            content = content[os.write(self._out, content) :]

    def _receive(self, what: str) -> dict[str, Any]:
        until = time.monotonic() + self._timeout_s
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium: {what} did not come in {self._timeout_s:g} s")
            part = os.read(self._in, 2**20)
            if not part:
                raise RuntimeError(f"Chromium ended before {what} came")
            self._waiting += part
        first, _, self._waiting = self._waiting.partition(b"\0")
        answer: dict[str, Any] = json.loads(first)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.complaints.append(" ".join(str(part.get("value")) for part in parameters["args"]))

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Give the page so many CSS pixels, each `scale` pixels of a picture wide."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def open(self, page: Path) -> None:
        """Load a page from the disk."""
        self.go(page.resolve().as_uri())

    def go(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    @contextmanager
    def inside_frame(self, address: str) -> Iterator[None]:
        """Evaluate, wait and click within a sandboxed frame, whose URL ends with `address`."""
        outer = self._session
        self._session = None
        until = time.monotonic() + self._timeout_s
        try:
            while not (target := self._frame(address)):
                if time.monotonic() > until:
                    raise TimeoutError(f"Chromium: no frame of {address} in {self._timeout_s:g} s")
                time.sleep(0.05)
            answer = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = answer["sessionId"]
            yield
        finally:
            self._session = outer

    def _frame(self, address: str) -> str | None:
        targets = self.call("Target.getTargets")["targetInfos"]
        found = [t["targetId"] for t in targets if t["type"] == "iframe" and t["url"].endswith(address)]
        return found[0] if found else None

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, awaited. Raises RuntimeError for an exception."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(
                f"{script}: {details.get('exception', {}).get('description', details['text'])}"
            )
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true in the page. Raises TimeoutError."""
        until = time.monotonic() + self._timeout_s
        while not self.evaluate(condition):
            if time.monotonic() > until:
                raise TimeoutError(f"Chromium: {condition} was not true in {self._timeout_s:g} s")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """A real click into the middle of an element, brought into view first."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        """A key, as `KeyboardEvent.key` names it."""
        extra: dict[str, object] = {"text": key} if len(key) == 1 else {}
        if key in VIRTUAL_KEYS:
            extra["windowsVirtualKeyCode"] = VIRTUAL_KEYS[key]
        if key == "Enter":
            extra["text"] = "\r"
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def choose(self, selector: str, *paths: Path) -> None:
        """Give files, or a folder, to an <input type="file">."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        files = [str(path) for path in paths]
        self.call("DOM.setFileInputFiles", files=files, objectId=found["result"]["objectId"])

    def drop(self, *paths: Path, x: float = 700, y: float = 300) -> None:
        """Drag files or folders from outside over the page, and let go."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path: Path) -> None:
        """A PNG of what is in view."""
        self._save(path, {})

    def screenshot_of(self, path: Path, selector: str) -> None:
        """A PNG of one element."""
        box = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1}; })()"
        )
        self._save(path, {"clip": box, "captureBeyondViewport": True})

    def _save(self, path: Path, options: dict[str, object]) -> None:
        shot = self.call("Page.captureScreenshot", format="png", **options)
        path.write_bytes(base64.b64decode(shot["data"]))
