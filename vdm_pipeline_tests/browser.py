"""Headless Chromium, controlled over its DevTools pipe."""

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
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_S = 60
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)


class Page:
    """One tab. ``events`` are the protocol events since the last `open`, in order."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._buffer, self._last_id = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, address: Path | str, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file or an address and wait for the load event."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=address.as_uri() if isinstance(address, Path) else address)
        while not self.events_of("Page.loadEventFired"):
            self._read_message()

    def wait(self, expression: str, seconds: float = TIMEOUT_S) -> None:
        """Wait until a JavaScript expression is true; an error in it counts as false."""
        end = time.monotonic() + seconds
        guarded = f"(() => {{ try {{ return {expression} }} catch (error) {{ return false }} }})()"
        while not self.value(guarded):
            text = self.value("document.body.innerText")
            assert time.monotonic() < end, f"still false after {seconds} s: {expression}; page text: {text}"
            time.sleep(0.2)

    def click(self, text: str) -> None:
        """Click the button or link with this text, once it exists and is enabled."""
        button = (
            "[...document.querySelectorAll('button, a')]"
            f".find(b => b.innerText.trim() == {json.dumps(text)} && !b.disabled)"
        )
        self.wait(f"!!{button}")
        self.value(f"{button}.click()")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write a screenshot of the visible part."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def events_of(self, method: str) -> list[dict[str, Any]]:
        """Parameters of the events of this name since the page was opened."""
        return [event["params"] for event in self.events if event["method"] == method]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its answer."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        answer: dict[str, Any] | None = None
        while answer is None:
            answer = self._read_message()
        assert "error" not in answer, answer
        return answer["result"]

    def _read_message(self) -> dict[str, Any] | None:
        """Read one message: return the answer to the last command, or record an event and return None."""
        end = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            part = os.read(self._reader, 1 << 20)
            assert part, "Chromium ended"
            self._buffer += part
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(raw)
        if message.get("id") == self._last_id:
            return message
        if "method" in message:
            self.events.append(message)
        return None


@contextmanager
def browser() -> Iterator[Page]:
    """A Chromium with an empty profile; it ends with the block."""
    assert CHROMIUM
    (their_input, our_output), (our_input, their_output) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        options = f'{" ".join(OPTIONS)} --user-data-dir="$1" 3<&{their_input} 4>&{their_output}'
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" {options}', CHROMIUM, home],
            pass_fds=(their_input, their_output),
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)
        try:
            yield Page(our_input, our_output)
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
            os.close(our_input)
            os.close(our_output)
