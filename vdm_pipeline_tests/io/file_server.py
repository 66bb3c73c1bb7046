"""A local HTTP server of one file that disconnects, sends wrong ranges, refuses and redirects on demand."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.body`` as configured by the server's other attributes; see `serving_file`."""

    def do_GET(self) -> None:
        """Answer with ``server.status``, 416, the requested range or the whole file."""
        range_header = self.headers.get("Range")
        self.server.ranges.append(range_header)
        if self.server.status:
            self.send_headers(self.server.status, {"Location": self.server.location})
        elif range_header and self.server.with_ranges:
            self.send_range(int(re.match(r"bytes=(\d+)-", range_header)[1]))
        else:
            self.send_body(200, 0, {})

    def send_range(self, start: int) -> None:
        """Send the file from ``start`` on."""
        size = len(self.server.body)
        if start >= size:
            self.send_headers(416, {"Content-Range": f"bytes */{size}"})
        else:
            content_range = f"bytes {start + self.server.range_offset}-{size - 1}/{size}"
            self.send_body(206, start, {"Content-Range": content_range})

    def send_body(self, status: int, start: int, headers: dict[str, str]) -> None:
        """Send the file from ``start`` on, up to the next disconnect."""
        if self.server.with_length:
            headers["Content-Length"] = str(len(self.server.body) - start)
        self.send_headers(status, headers)
        stop = start + self.server.disconnect_after.pop(0) if self.server.disconnect_after else None
        self.wfile.write(self.server.body[start:stop])
        time.sleep(self.server.silence_s)

    def send_headers(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and all headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args) -> None:
        """Log nothing."""


@contextmanager
def serving_file(body: bytes) -> Iterator[SimpleNamespace]:
    """A server of ``body`` at ``server.url``. Its attributes can be changed between requests.

    ``disconnect_after`` has one number of bytes per request; ``ranges`` collects the Range headers received;
    ``status`` replaces every answer; ``range_offset`` makes ranges wrong; ``silence_s`` keeps the connection
    open after the last byte.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.url = body, f"http://127.0.0.1:{server.server_port}/a.npz"
    server.with_ranges, server.with_length, server.range_offset = True, True, 0
    server.disconnect_after, server.ranges, server.silence_s = [], [], 0
    server.status, server.location = None, "/"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
