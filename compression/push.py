"""Uploads an exported folder to a hub."""

from pathlib import Path

from gpt_tasks.backbone.artifact import read_report
from gpt_tasks.errors import UserError, first_line


def require_repository_name(name: str, token_too: bool = True) -> None:
    """
    Raises:
        UserError: a name that no hub takes; no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push {name}: not a possible name on the hub ({error}). Give OWNER/NAME.") from error
    if token_too and get_token() is None:
        raise UserError(
            "To upload, the hub wants a token. Run 'hf auth login', or put one with write access into the environment "
            "variable HF_TOKEN."
        )


def push(folder: Path, name: str, private: bool) -> str:
    """Uploads what is in the folder; graphs of an older export that is there go.

    Returns:
        the address of the model's page

    Raises:
        UserError: not an exported folder; a hub that refuses, or that can't be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from requests.exceptions import RequestException

    read_report(folder)
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Export to ONNX Runtime",
            delete_patterns=["onnx/*"],
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise UserError(
                f"The hub refuses to write to {name}: the token has no write access to it. Make one that has, or name "
                f"a model of your own. The folder {folder} is kept."
            ) from error
        raise UserError(f"The hub refused {name}: {first_line(error)}. The folder {folder} is kept.") from error
    except (RequestException, OSError) as error:
        raise UserError(
            f"The upload to {name} broke off: {first_line(error)}. The folder {folder} is kept; run the same command "
            "again when the network is back."
        ) from error
    return str(address)
