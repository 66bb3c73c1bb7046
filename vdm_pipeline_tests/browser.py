"""Headless Chromium over its debugging pipe: opens a page of a given width and says what it did."""

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

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SECONDS = 60


class Page:
    """One tab; ``events`` are all that Chromium told, in order."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer, self.rest, self.last = reader, writer, b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session: str | None = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    session = None

    def open(self, address: Path | str, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file or an address and wait until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.events.clear()
        self.call("Page.navigate", url=address.as_uri() if isinstance(address, Path) else address)
        self.until(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def wait(self, expression: str, seconds: float = SECONDS) -> None:
        """Until a JavaScript expression holds, which a page that draws itself makes true in its own time."""
        end = time.monotonic() + seconds
        while not self.value(
            f"(() => {{ try {{ return {expression} }} catch (error) {{ return false }} }})()"
        ):
            assert time.monotonic() < end, (
                f"not so after {seconds} s: {expression}; the page says: {self.value('document.body.innerText')}"
            )
            time.sleep(0.2)

    def click(self, text: str) -> None:
        """The button or link with this text, once it is there and may be pressed."""
        button = f"[...document.querySelectorAll('button, a')].find(b => b.innerText.trim() == {json.dumps(text)} && !b.disabled)"
        self.wait(f"!!{button}")
        self.value(f"{button}.click()")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression has for a value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write a screenshot."""
        path.write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        )

    def told(self, method: str) -> list[dict[str, Any]]:
        """Parameters of all events of this name since the page was opened."""
        return [event["params"] for event in self.events if event["method"] == method]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self.until(lambda: bool(answers), answers)
        assert "error" not in answers[0], answers[0]
        return answers[0]["result"]

    def until(self, done: Any, answers: list[dict[str, Any]] | None = None) -> None:
        """Read messages until ``done``; that which answers the last command goes to ``answers``."""
        end = time.monotonic() + SECONDS
        while not done():
            while b"\0" not in self.rest:
                assert select.select([self.reader], [], [], max(0, end - time.monotonic()))[0], (
                    "Chromium does not answer"
                )
                part = os.read(self.reader, 1 << 20)
                assert part, "Chromium ended"
                self.rest += part
            raw, self.rest = self.rest.split(b"\0", 1)
            message = json.loads(raw)
            if message.get("id") == self.last and answers is not None:
                answers.append(message)
            elif "method" in message:
                self.events.append(message)


@contextmanager
def browser() -> Iterator[Page]:
    """A Chromium of its own, with an empty profile; it ends with the block."""
    assert CHROMIUM
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    options = "--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking --remote-debugging-pipe"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        command = f'exec "$0" {options} --user-data-dir="$1" 3<&{their_in} 4>&{their_out}'
        process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, home], pass_fds=(their_in, their_out), stderr=subprocess.DEVNULL
        )
        os.close(their_in), os.close(their_out)
        try:
            yield Page(our_in, our_out)
        finally:
            process.terminate()
            process.wait(SECONDS)
            os.close(our_in), os.close(our_out)
