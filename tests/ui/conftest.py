"""The real page on the real model, in a real browser."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


class Server:
    """A running app.py."""

    def __init__(self, process, port, started):
        self.pid = process.pid
        self.url = f"http://127.0.0.1:{port}/"
        self.port = port
        self.seconds_to_answer = time.monotonic() - started

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_megabytes(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())[1]) / 1000

    def is_computing(self, seconds=1.0):
        before = self.cpu_seconds()
        time.sleep(seconds)
        return self.cpu_seconds() - before > 0.5 * seconds


@contextmanager
def serve(environment, log_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=PROJECT,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment, "GRADIO_SERVER_PORT": str(port)},
        )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log_path.read_text()
                assert time.monotonic() - started < 60, log_path.read_text()
                time.sleep(0.05)
        yield Server(process, port, started)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def server(default_artifact, tmp_path_factory):
    with serve({}, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def open_page(browser):
    """A function: opens a server's page; at the end of the test it must have asked no other host, and had no error."""
    contexts, foreign, errors = [], [], []

    def open_(server, **settings):
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        ours = (server.url, f"http://localhost:{server.port}/", f"ws://127.0.0.1:{server.port}/", "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(ours) or foreign.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("#open-ended-text textarea")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert foreign == []
    assert errors == []
