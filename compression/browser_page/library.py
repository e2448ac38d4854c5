"""transformers.js and onnxruntime's WebAssembly, from their npm packages."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from gpt_tasks.errors import UserError
from gpt_tasks.home import only_one, whole_folder, writable_home

# onnxruntime-web is the release that this transformers.js was built with: its JavaScript is inside transformers.min.js.
PACKAGES = {"@huggingface/transformers": "4.3.2", "onnxruntime-web": "1.31.0-dev.20260914-8d85527a0"}
_FILES = {
    "@huggingface/transformers": ("transformers.min.js",),
    "onnxruntime-web": ("ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}


def library_files(node_modules: Path | None = None) -> list[Path]:
    """The files that the page loads.

    Args:
        node_modules: where npm has installed the packages; None: they are fetched once, into the cache

    Raises:
        UserError: they are not there, or can't be fetched.
    """
    if node_modules is not None:
        return _installed(node_modules)
    home = writable_home()
    kept = home / "javascript" / PACKAGES["@huggingface/transformers"]
    with only_one(home, "javascript"):
        if not kept.is_dir():
            with whole_folder(kept) as part:
                for package, version in PACKAGES.items():
                    _fetch(package, version, part)
    return sorted(kept.iterdir())


def _installed(node_modules: Path) -> list[Path]:
    files = [node_modules / package / "dist" / name for package, names in _FILES.items() for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        wanted = " ".join(f"{package}@{version}" for package, version in PACKAGES.items())
        raise UserError(f"{missing[0]} is not there. Install it with: npm install --ignore-scripts {wanted}")
    return files


def _fetch(package: str, version: str, folder: Path) -> None:
    """`npm pack` downloads a package's archive and runs none of its scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "transformers.js comes from npm, which isn't on this machine. Install Node.js, or name a node_modules "
            "folder that has it with --library."
        )
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [npm, "pack", "--silent", f"{package}@{version}"], cwd=scratch, capture_output=True, text=True
        )
        if done.returncode:
            reason = (done.stderr.strip() or "no reason given").split("\n")[0]
            raise UserError(f"npm can't fetch {package} {version}: {reason}. Check the network, and try again.")
        [archive] = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as files:
            for name in _FILES[package]:
                source = files.extractfile(f"package/dist/{name}")
                with (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
