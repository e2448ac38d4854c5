"""Puts a static site together: the page, the library, and one precision of a model."""

import os
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path

import onnx

from compression.browser_page.graph import for_browsers
from gpt_tasks.backbone.architectures import is_uniform
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.backbone.weights import TOKENIZER_FILES
from gpt_tasks.errors import UserError
from gpt_tasks.home import whole_folder

_HERE = Path(__file__).parent
_PAGE = ("page.js", "page.css")
_MARK = "site.json"


def write_site(artifact: Artifact, precision: str, library: Iterable[Path], out: Path) -> None:
    """Writes the folder `out`, which any web server can serve; an older site there is replaced.

    Args:
        library: see `library_files`

    Raises:
        UserError: a model that transformers.js can't run, a folder that is something else, a full disk.
    """
    if not is_uniform(artifact.hugging_face_config):
        raise UserError(
            f"{artifact.folder} was pruned to layers of different sizes, which transformers.js doesn't know. Take a "
            "model whose layers are alike."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / _MARK).is_file():
        raise UserError(f"{out} exists and is not a site of this command: it is left alone. Name a new folder.")
    graph = artifact.graph_path(precision)
    with whole_folder(out) as folder:
        title = escape(artifact.report["model"])
        page = (_HERE / "index.html").read_text("utf-8").replace("{{title}}", title)
        (folder / "index.html").write_text(page, "utf-8")
        for name in _PAGE:
            shutil.copyfile(_HERE / name, folder / name)
        (folder / "lib").mkdir()
        for file in library:
            _put(file, folder / "lib" / file.name)
        (folder / "model" / "onnx").mkdir(parents=True)
        for name in ("config.json", *TOKENIZER_FILES):
            if (artifact.folder / name).is_file():
                shutil.copyfile(artifact.folder / name, folder / "model" / name)
        onnx.save(for_browsers(onnx.load(graph, load_external_data=False)), folder / "model" / "onnx" / graph.name)
        data = graph.with_name(f"{graph.name}_data")
        _put(data, folder / "model" / "onnx" / data.name)
        write_json(
            folder / _MARK,
            {
                "model": artifact.report["model"],
                "precision": precision,
                "file": graph.stem,
                "megabytes": artifact.report["precisions"][precision]["size_mb"],
                "chat": artifact.load_tokenizer().has_chat_template,
            },
        )


def _put(source: Path, target: Path) -> None:
    """A second name for the same bytes, where the file system allows it: these files are large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
