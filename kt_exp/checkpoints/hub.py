"""Upload an exported model to the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from kt_exp.errors import UserError
from kt_exp.offline import fails_fast_offline

WHERE = "push_to_hub"


def push_folder(repo: str, write: Callable[[Path], object], private: bool) -> str:
    """Upload the folder that `write` makes to a repository, created if absent; return its address.

    Raises:
        UserError: the hub cannot be reached, or refuses: no login, no permission, no such name.
    """
    with tempfile.TemporaryDirectory() as home, fails_fast_offline(True):
        folder = Path(home) / "model"
        write(folder)
        api = HfApi()
        try:
            made = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=made.repo_id, folder_path=folder,
                              commit_message="Upload a model taught by kt_exp")
        except HFValidationError as error:
            raise UserError(WHERE, f"'{repo}' is no name of a repository ({error})",
                            "give NAME or ORGANISATION/NAME") from error
        except LocalTokenNotFoundError as error:
            raise UserError(WHERE, "there is no login", "log in by: hf auth login") from error
        except HfHubHTTPError as error:
            raise UserError(WHERE, f"the hub refuses ({_first_line(error)})",
                            "check the login (hf auth whoami) and its right to write") from error
        except (ConnectionError, OSError) as error:
            raise UserError(WHERE, f"the hub cannot be reached ({_first_line(error)})",
                            "write the files by export(FOLDER), and where there is a network: "
                            f"hf upload {repo} FOLDER") from error
    return str(made)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
