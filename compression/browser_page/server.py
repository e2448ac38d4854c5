"""Serves a static site on this machine."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from gpt_tasks.errors import UserError


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        # With these two a browser lets WebAssembly use several threads.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet: a line for every file helps nobody."""


def make_server(site: Path, host: str, port: int) -> ThreadingHTTPServer:
    """
    Raises:
        UserError: the port is taken, or may not be used.
    """
    try:
        return ThreadingHTTPServer((host, port), partial(_Handler, directory=str(site)))
    except OSError as error:
        raise UserError(f"Port {port} of {host} can't be used ({error.strerror}). Name another with --port.") from error
