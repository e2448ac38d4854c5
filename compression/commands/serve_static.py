"""Run an exported GPT in the visitor's browser.

Writes one static page with the model, transformers.js and onnxruntime's WebAssembly: any web server can serve the
folder, and the page asks no other host. Without --out it is served from here until Ctrl-C.

  python -m compression serve-static my-model
  python -m compression serve-static my-model --precision int4 --out site
"""

import argparse
import sys
import tempfile
from pathlib import Path

from compression.browser_page.library import library_files
from compression.browser_page.server import make_server
from compression.browser_page.site import write_site
from gpt_tasks.backbone.artifact import Artifact, preferred_precision
from gpt_tasks.errors import UserError

SUMMARY = "a static page that runs an exported GPT in the browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="DIR", type=Path, help="an exported GPT's folder")
    parser.add_argument("--precision", metavar="P", help="of the folder's (default: int8, or the best there is)")
    parser.add_argument("--out", metavar="SITE", type=Path, help="write the site to this folder, and serve nothing")
    parser.add_argument("--host", default="127.0.0.1", help="to serve on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="to serve on (default: 8000)")
    parser.add_argument(
        "--library",
        metavar="NODE_MODULES",
        type=Path,
        help="take transformers.js and onnxruntime-web from here (default: npm fetches them, once)",
    )


def run(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.port < 65536:
        raise UserError(f"--port must be between 1 and 65535, got {arguments.port}.")
    artifact = Artifact(arguments.artifact)
    precision = arguments.precision or preferred_precision(artifact.precisions)
    artifact.graph_path(precision)  # says what there is
    if arguments.out is not None:
        write_site(artifact, precision, library_files(arguments.library), arguments.out)
        size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
        print(f"{arguments.out}: {size / 10**6:.0f} MB. Serve the folder with any web server.")
        return
    # The port first: one that is taken should not be found out after a download.
    with (
        tempfile.TemporaryDirectory() as scratch,
        make_server(Path(scratch) / "site", arguments.host, arguments.port) as server,
    ):
        write_site(artifact, precision, library_files(arguments.library), Path(scratch) / "site")
        sys.stderr.write(f"serving {artifact.folder} ({precision}) on http://{arguments.host}:{arguments.port}/\n")
        server.serve_forever()
