"""Models on a Hugging Face hub: found, checked before anything large is fetched, and fetched at one commit.

The token is the hub client's own (HF_TOKEN, or what `hf auth login` keeps); it is never read or printed here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.errors import UserError, first_line

DEFAULT_REVISION = "main"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Repository:
    """A model at one commit."""

    name: str
    commit: str
    sizes: Mapping[str, int]
    """file -> bytes"""

    @property
    def record(self) -> dict[str, str]:
        """Where a model came from, for report.json."""
        return {"kind": "hub", "repository": self.name, "revision": self.commit}

    def safetensors_bytes(self) -> int:
        return sum(size for name, size in self.sizes.items() if name.endswith(".safetensors"))


def is_hub_id(name: str) -> bool:
    """Whether a name can be a hub's: it isn't a path, as far as that can be seen."""
    return not Path(name).expanduser().exists() and not name.startswith((".", "/", "~")) and name.count("/") <= 1


def find_repository(name: str, revision: str | None = None) -> Repository:
    """Asks the hub for a model's commit and files; without a network, what was fetched before.

    Args:
        revision: a branch, a tag or a commit; None: the default branch

    Raises:
        UserError: no such model or revision, no network and nothing fetched, weights that are pickled alone.
    """
    # Imported here, as below: only this path needs the network library, and serving never comes here.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled
    from requests.exceptions import ConnectionError as Unreachable

    with _hub_errors(name, revision):
        try:
            found = HfApi().model_info(name, revision=revision, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
            repository = Repository(name, found.sha, sizes)
        except (Unreachable, OfflineModeIsEnabled):
            repository = _fetched_before(name, revision)
    _require_safetensors(repository)
    return repository


def _fetched_before(name: str, revision: str | None) -> Repository:
    """
    Raises:
        LocalEntryNotFoundError: nothing of it was.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError

    kept = scan_cache_dir(HF_HUB_CACHE).repos if Path(HF_HUB_CACHE).is_dir() else ()
    found = [
        snapshot
        for repository in kept
        if repository.repo_id == name
        for snapshot in repository.revisions
        # A branch is not known here by its name, since it was fetched by its commit: then the last one counts.
        if revision in (None, DEFAULT_REVISION, snapshot.commit_hash)
    ]
    if not found:
        raise LocalEntryNotFoundError(f"{name} was never fetched")
    last = max(found, key=lambda snapshot: snapshot.last_modified)
    sizes = {str(file.file_path.relative_to(last.snapshot_path)): file.size_on_disk for file in last.files}
    return Repository(name, last.commit_hash, sizes)


def _require_safetensors(repository: Repository) -> None:
    if any(name.endswith(".safetensors") for name in repository.sizes):
        return
    pickled = sorted(name for name in repository.sizes if any(fnmatch(name, pattern) for pattern in _PICKLED))
    if not pickled:
        raise UserError(f"{repository.name} has no weights: no safetensors file is in it.")
    raise UserError(
        f"{repository.name} has its weights in {pickled[0]} alone. Such files can run any code when they are opened, "
        "so they never are. Convert them where you trust them: AutoModel.from_pretrained(...).save_pretrained(FOLDER, "
        "safe_serialization=True) with transformers, and the tokenizer likewise; then name FOLDER."
    )


def fetch_config(repository: Repository) -> dict:
    """config.json alone.

    Raises:
        UserError: there is none, it can't be had.
    """
    from huggingface_hub import HfApi

    with _hub_errors(repository.name, repository.commit):
        return read_json(Path(HfApi().hf_hub_download(repository.name, "config.json", revision=repository.commit)))


def fetch(repository: Repository, patterns: Sequence[str]) -> Path:
    """The files that match, in the hub client's cache. What a broken run has fetched is not fetched again.

    Raises:
        UserError: they can't be had.
    """
    from huggingface_hub import HfApi

    with _hub_errors(repository.name, repository.commit):
        return Path(
            HfApi().snapshot_download(repository.name, revision=repository.commit, allow_patterns=list(patterns))
        )


@contextmanager
def _hub_errors(repository: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from requests.exceptions import RequestException

    try:
        yield
    except HFValidationError as error:
        if Path(repository).expanduser().is_dir():
            raise UserError(f"{repository} is a folder, not a hub id. Leave --from-hub out to take it.") from error
        raise UserError(f"{repository!r} is neither a folder here nor a possible hub id ({error}).") from error
    except GatedRepoError as error:
        raise UserError(
            f"{repository} is gated: its owner wants you to accept conditions first. Accept them on its page on the "
            "hub, then run 'hf auth login', or put a token of yours into the environment variable HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repository} has no branch, tag or commit {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{repository} is not a folder here, and the hub has no such model, or it is private. Check the name; for "
            "a private one run 'hf auth login', or put a token into the environment variable HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{repository} is not a folder here, and the hub can't be reached. Check the network and run the same "
            "command again: files that were fetched whole are kept."
        ) from error
    except EntryNotFoundError as error:
        raise UserError(f"{repository} has no config.json, so what it is can't be told.") from error
    except (HfHubHTTPError, RequestException, OSError) as error:
        raise UserError(
            f"{repository} could not be fetched from the hub: {first_line(error)}\nCheck the network and run the same "
            "command again: files that were fetched whole are kept."
        ) from error
