"""Starting the page from the command line."""

import os
import socket
import subprocess
import sys
import urllib.request

import pytest


class TestApp:
    @pytest.mark.parametrize("port", ["abc", "²", "0", "99999", "-1"])
    def test_a_port_that_is_none(self, port):
        done = subprocess.run(
            [sys.executable, "app.py"], env={**os.environ, "GRADIO_SERVER_PORT": port}, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "not a port number" in done.stderr and "Traceback" not in done.stderr

    def test_a_proxy_for_the_network_does_not_matter(self, default_artifact):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        environment = {**os.environ, **proxy, "GRADIO_SERVER_PORT": str(port), "NO_PROXY": "", "no_proxy": ""}
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert any("Running on local URL" in line for line in process.stdout)
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            assert direct.open(f"http://127.0.0.1:{port}/", timeout=60).status == 200
            assert process.poll() is None
        finally:
            process.terminate()
            said = process.communicate()[0]
        assert "Traceback" not in said

    def test_a_port_that_is_taken(self, default_artifact):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            environment = {**os.environ, "GRADIO_SERVER_PORT": str(taken.getsockname()[1])}
            done = subprocess.run(
                [sys.executable, "app.py"], env=environment, capture_output=True, text=True, timeout=180
            )
        assert done.returncode == 1
        assert "is taken" in done.stderr and "Traceback" not in done.stderr
