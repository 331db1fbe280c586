"""A small local web page of the running stream: signal, reconstruction, probabilities; or of a session.

Standard library only: an HTTP server with server-sent events. It binds to this machine unless told otherwise,
and asks for a token then.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eegm2.deploy.config import LOOPBACK, refuse_open_host
from eegm2.deploy.live.outputs import Outputs
from eegm2.errors import ConfigError

_LARGEST_AUDIENCE = 8
_WAITING = 32


class WebPage:
    """Serves the page and feeds it.

    Parameters
    ----------
    host : str
    port : int
        0 takes a free one, see :attr:`port`.
    token : str
        Required as ``?token=`` unless empty.
    facts : dict
        ch_names, sfreq_hz, classes and the like, for the page.
    page : {"page.html", "session.html"}
        Of a stream, or of a recording with cues.

    Raises
    ------
    ConfigError
        If others could reach the page without a token, or the address cannot be bound.
    """

    def __init__(
        self, host: str, port: int, token: str, facts: dict[str, Any], page: str = "page.html"
    ) -> None:
        refuse_open_host(host, token)
        self.facts, self.token, self.local, self.page = facts, token, host in LOOPBACK, page
        self._audience: list[queue.Queue[str]] = []
        self._lock = threading.Lock()
        this = self

        class Handler(_Handler):
            web = this

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise ConfigError(f"port: cannot serve at {host}:{port} ({error.strerror})") from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://{host}:{self.port}/" + (f"?token={token}" if token else "")
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="eegm2-web")
        self._thread.start()

    def push(self, outputs: Outputs, statistics: dict[str, Any]) -> None:
        """Send what a chunk brought forth."""
        if self._audience:
            self.send(
                {
                    "x": outputs.x.round(4).tolist(),
                    "y": outputs.reconstruction.round(4).tolist(),
                    "decisions": outputs.decisions,
                    "events": outputs.events,
                    "statistics": statistics,
                }
            )

    def send(self, values: dict[str, Any]) -> None:
        """Send plain values to everybody who watches; slow watchers lose the oldest."""
        with self._lock:
            audience = list(self._audience)
        if not audience:
            return
        message = json.dumps(values)
        for waiting in audience:
            if waiting.full():
                with contextlib.suppress(queue.Empty):
                    waiting.get_nowait()
            with contextlib.suppress(queue.Full):
                waiting.put_nowait(message)

    def join(self) -> queue.Queue[str] | None:
        """Return a new watcher's queue, or None if there are too many."""
        with self._lock:
            if len(self._audience) >= _LARGEST_AUDIENCE:
                return None
            waiting: queue.Queue[str] = queue.Queue(_WAITING)
            self._audience.append(waiting)
            return waiting

    def leave(self, waiting: queue.Queue[str]) -> None:
        """Forget a watcher."""
        with self._lock:
            self._audience.remove(waiting)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: WebPage
    timeout = 30

    def do_GET(self) -> None:
        """Serve the page, the facts or the events."""
        url = urlsplit(self.path)
        if not self._allowed(parse_qs(url.query).get("token", [""])[0]):
            self.send_error(403, "wrong host or token")
        elif url.path == "/":
            page = files("eegm2.deploy.live").joinpath(self.web.page).read_bytes()
            self._send(page, "text/html; charset=utf-8")
        elif url.path == "/facts":
            self._send(json.dumps(self.web.facts).encode(), "application/json")
        elif url.path == "/events":
            self._events()
        else:
            self.send_error(404)

    def _allowed(self, token: str) -> bool:
        """Check the token, and that a local page is asked for by a local name (no rebinding)."""
        host = self.headers.get("Host", "").rpartition(":")[0].strip("[]")
        if self.web.local and host not in LOOPBACK:
            return False
        return not self.web.token or hmac.compare_digest(token.encode(), self.web.token.encode())

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; img-src data:")
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        waiting = self.web.join()
        if waiting is None:
            self.send_error(503, "too many watchers")
            return
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            while True:
                try:
                    text = f"data: {waiting.get(timeout=5)}\n\n"
                except queue.Empty:
                    text = ": nothing new\n\n"
                self.wfile.write(text.encode())
                self.wfile.flush()
        except OSError:
            pass
        finally:
            self.web.leave(waiting)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the terminal belongs to the view."""
