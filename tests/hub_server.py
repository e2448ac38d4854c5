"""A hub on this machine: as much of the Hugging Face hub's interface as its client asks for."""

import base64
import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the folders of `models`; keeps what is uploaded.

    gated, private: names of models; broken: file names whose download breaks off in the middle
    """

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[str] = []
        """files that were sent"""
        self.created: dict[str, dict] = {}
        self.uploaded: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str] = set()
        self.down = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def disappear(self) -> None:
        """As if the network were gone: connections break off without an answer."""
        self.down = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            if hub.down:
                self.close_connection = True
                return False
            return super().parse_request()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                return self._info(path.removeprefix("/api/models/"))
            return self._file(path, send=True)

        def do_HEAD(self) -> None:
            self._file(unquote(urlsplit(self.path).path), send=False)

        def do_POST(self) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = urlsplit(self.path).path
            if token not in hub.tokens:
                return self._refuse(401, "")
            if path == "/api/validate-yaml":  # of a model card
                return self._json({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.created[name] = asked
                return self._json({"url": f"{hub.url}/{name}"})
            name = path.removeprefix("/api/models/").rpartition("/")[0].rpartition("/")[0]
            if "/preupload/" in path:
                files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
                return self._json({"files": files})
            entries = [json.loads(line) for line in body.decode().split("\n") if line]
            files = [entry["value"] for entry in entries if entry["key"] == "file"]
            hub.uploaded[name] = {file["path"]: base64.b64decode(file["content"]) for file in files}
            return self._json(
                {"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "pullRequestUrl": None}
            )

        def _info(self, rest: str) -> None:
            if "/tree/" in rest:  # an upload asks what is there that it may delete
                return self._json([])
            name, _, revision = rest.partition("/revision/")
            if name not in hub.models:
                return self._refuse(404, "RepoNotFound")
            if revision not in ("", "main", COMMIT):
                return self._refuse(404, "RevisionNotFound")
            folder = hub.models[name]
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            siblings = [{"rfilename": str(file.relative_to(folder)), "size": file.stat().st_size} for file in files]
            return self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []})

        def _file(self, path: str, send: bool) -> None:
            name, _, rest = path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            if name not in hub.models or revision not in ("main", COMMIT):
                return self._refuse(404, "RepoNotFound")
            if name in hub.gated:
                return self._refuse(403, "GatedRepo")
            source = hub.models[name] / file
            if not source.is_file():
                return self._refuse(404, "EntryNotFound")
            content = source.read_bytes()
            if send and file in hub.broken and file in hub.asked:
                return self._refuse(500, "")  # the client tries again at once
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not send:
                return None
            hub.asked.append(file)
            if file in hub.broken:
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return None
            self.wfile.write(content)
            return None

        def _json(self, value: dict | list) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
