"""Find and load the weights of an open_clip model."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import Any, NoReturn

import open_clip
from huggingface_hub import constants
from open_clip.factory import HF_HUB_PREFIX, LOCAL_DIR_PREFIX, _get_hf_config
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf

from kt_exp.errors import UserError, did_you_mean, is_out_of_memory
from kt_exp.models.files import no_memory
from kt_exp.offline import check_fetchable, fails_fast_offline
from kt_exp.remote_code import never_run, refuse_keys

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
TEXT_CONFIG_FILE = "config.json"
CHANGES_FILE = "changes.safetensors"  # what checkpoints/changes.py writes
_IN_A_FOLDER = {".safetensors", ".bin", ".pth"}
_IN_A_FILE = _IN_A_FOLDER | {".pt", ".npz"}
_GIVE_A_FOLDER = "a folder: model=open_clip model.name=local-dir:/path/to/folder"


def load_network(name: str, pretrained: str | None) -> tuple[Any, Any, dict[str, Any]]:
    """Return the open_clip network, its tokenizer and its `model_cfg`, on the CPU.

    Weights are read from safetensors, or from pickles that hold nothing but tensors.

    Raises:
        UserError: unknown name or tag, or weights that are missing, damaged, of another
            architecture, or cannot be downloaded.
    """
    name, pretrained = _spelled_out(name, pretrained)
    _check_names(name, pretrained)
    with fails_fast_offline(_needs_hub(name, pretrained)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _download(name, pretrained)
        refuse_keys(open_clip.get_model_config(name), _config_of(name))
        try:
            with never_run(_local_dir(name) or name, "model.name"):
                network, _, _ = open_clip.create_model_and_transforms(
                    name, pretrained=pretrained, require_pretrained=True, device="cpu",
                    **_text_from_folder(name),
                )
                tokenizer = open_clip.get_tokenizer(name)
        except UserError:
            raise
        except Exception as error:
            _explain(error, name, pretrained)
        return network, tokenizer, open_clip.get_model_config(name)


def check_network(name: str, pretrained: str | None) -> None:
    """Check the names, and that weights are on this machine or can be fetched; load nothing.

    Raises:
        UserError: as `load_network`, but for what only loading shows.
    """
    name, pretrained = _spelled_out(name, pretrained)
    _check_names(name, pretrained)
    by_url = _is_tag(name, pretrained) and not open_clip.get_pretrained_cfg(
        name, pretrained).get("hf_hub")  # which has no check but the download
    if not by_url:
        check_fetchable(lambda: _download(name, pretrained))


def _text_from_folder(name: str) -> dict[str, Any]:
    """Return the arguments by which open_clip reads a text tower's configuration from the folder.

    Without them it asks the hub for that of `hf_model_name`, although the weights are in the
    folder. Empty if the folder has no such configuration.
    """
    folder = _local_dir(name)
    if not folder or not (folder / TEXT_CONFIG_FILE).is_file():
        return {}
    text = open_clip.get_model_config(name)["text_cfg"]
    if "hf_model_name" not in text:
        return {}
    return {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}


def _spelled_out(name: str, pretrained: str | None) -> tuple[str, str | None]:
    if folder := _local_dir(name):
        name = LOCAL_DIR_PREFIX + str(folder)
    elif not name.startswith(HF_HUB_PREFIX):
        name = name.replace("/", "-")
    return name, pretrained and os.path.expanduser(pretrained)


def _local_dir(name: str) -> Path | None:
    if not name.startswith(LOCAL_DIR_PREFIX):
        return None
    return Path(name.removeprefix(LOCAL_DIR_PREFIX)).expanduser()


def _config_of(name: str) -> str:
    return str((_local_dir(name) or Path(name)) / CONFIG_FILE)


def _check_names(name: str, pretrained: str | None) -> None:
    folder = _local_dir(name)
    if not folder and not name.startswith(HF_HUB_PREFIX):
        _check_built_in(name, pretrained)
        return
    if pretrained:
        raise UserError("model.pretrained", f"'{pretrained}' would be ignored: {name} has weights "
                        "of its own", "leave it out (model.pretrained=null)")
    if folder:
        _check_local_dir(folder)


def _check_built_in(name: str, pretrained: str | None) -> None:
    known = open_clip.list_models()
    if name not in known:
        raise UserError("model.name", f"open_clip has no model '{name}'",
                        did_you_mean(name, known) + " (or local-dir:FOLDER, hf-hub:ORG/REPO)")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        raise UserError("model.pretrained", "missing: an untrained model knows nothing",
                        "give the path of a checkpoint, or a tag; " + did_you_mean("", tags))
    if _is_tag(name, pretrained):
        _check_activation(name, pretrained)
    elif os.sep in pretrained or Path(pretrained).suffix in _IN_A_FILE:
        if not Path(pretrained).is_file():
            raise UserError("model.pretrained", f"no such file: {pretrained}",
                            "give the path of a checkpoint, or a tag of open_clip")
    else:
        raise UserError("model.pretrained", f"'{name}' has no tag '{pretrained}'",
                        did_you_mean(pretrained, tags) + " (or the path of a checkpoint)")


def _is_tag(name: str, pretrained: str | None) -> bool:
    return pretrained in open_clip.list_pretrained_tags_by_model(name)


def _check_activation(name: str, tag: str) -> None:
    trained_with = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
    if trained_with == open_clip.get_model_config(name).get("quick_gelu", False):
        return
    stem = name.removesuffix("-quickgelu")
    raise UserError("model.name", f"'{name}' has another activation than the weights '{tag}' were "
                    "trained with", f"use {stem}-quickgelu" if trained_with else f"use {stem}")


def _check_local_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError("model.name", f"no such folder: {folder}",
                        f"give local-dir:FOLDER with {CONFIG_FILE} and weights")
    if (folder / CHANGES_FILE).is_file():
        raise UserError("model.name", f"{folder} holds the changes of a fine-tuned model alone",
                        "write a whole model by kt-exp export RUN --concept X, and give its folder")
    config = _read_config(folder / CONFIG_FILE)
    files = [path.name for path in folder.iterdir()]
    if not any(Path(file).suffix in _IN_A_FOLDER for file in files):
        raise UserError("model.name", f"{folder} holds no weights",
                        f"put {WEIGHTS_FILE} beside {CONFIG_FILE}")
    wants_tokenizer = "hf_tokenizer_name" in config.get("text_cfg", {})
    if wants_tokenizer and not any(re.match("tokenizer|vocab|spiece|sentencepiece", file)
                                   for file in files):
        raise UserError("model.name", f"{folder} holds no tokenizer, which its {CONFIG_FILE} asks "
                        "for (hf_tokenizer_name)", "put tokenizer.json and its config beside it")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except FileNotFoundError:
        raise UserError("model.name", f"{path.parent} has no {CONFIG_FILE}",
                        "give a folder in open_clip's local-dir format") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(path), f"is not a model's configuration ({error})",
                        "give JSON with model_cfg and preprocess_cfg, as open_clip writes it"
                        ) from error


def _needs_hub(name: str, pretrained: str | None) -> bool:
    if name.startswith(HF_HUB_PREFIX) or _is_tag(name, pretrained):
        return True
    text = open_clip.get_model_config(name).get("text_cfg", {})
    if _local_dir(name):
        return "hf_model_name" in text and not _text_from_folder(name)
    return "hf_model_name" in text or "hf_tokenizer_name" in text


def _download(name: str, pretrained: str | None) -> None:
    """Download the files of a tag or hub repository unless they are in the local cache."""
    try:
        if name.startswith(HF_HUB_PREFIX):
            repository = name.removeprefix(HF_HUB_PREFIX)
            source = f"{repository}/{CONFIG_FILE}"
            _get_hf_config(repository)
            source = f"{repository}/{WEIGHTS_FILE}"
            download_pretrained_from_hf(repository)
        elif _is_tag(name, pretrained):
            config = open_clip.get_pretrained_cfg(name, pretrained)
            source = config.get("hf_hub") or config["url"]
            source += WEIGHTS_FILE if source.endswith("/") else ""
            download_pretrained(config)
    except Exception as error:
        wanted = f"{name} ({pretrained})" if pretrained else name
        remedy = _GIVE_A_FOLDER if name.startswith(HF_HUB_PREFIX) else \
            f"a file: model.pretrained=/path/to/checkpoint, or {_GIVE_A_FOLDER}"
        reason = "" if constants.HF_HUB_OFFLINE else f" ({_last_words(error)})"
        raise UserError("model", f"the weights of {wanted} are not on this machine, and {source} "
                        f"cannot be reached{reason}", f"give {remedy}") from error


def _explain(error: Exception, name: str, pretrained: str | None) -> NoReturn:
    """Raise the `UserError` that explains why the weights cannot be loaded."""
    by_path = pretrained is not None and not _is_tag(name, pretrained)
    where, what = ("model.pretrained", str(pretrained)) if by_path else ("model.name", name)
    text = str(error)
    if is_out_of_memory(error):
        raise no_memory(where, what) from error
    if key := _first_mismatch(text):
        raise UserError(where, f"{what} has weights of another architecture: {key}",
                        "give the model they were trained as, in model.name") from error
    if "TorchScript" in text:
        raise UserError(where, f"{what} is a TorchScript archive, a program that loading would run",
                        "give its weights as safetensors (docs/models.md)") from error
    if "GLOBAL" in text and "eights only load failed" in text:
        raise UserError(where, f"{what} holds more than tensors, which loading could run as code",
                        "give its weights as safetensors (docs/models.md)") from error
    if _is_offline(error):
        raise UserError("model.name", f"the text encoder's files of {name} are not on this machine "
                        "and cannot be reached",
                        "load the model once where there is a network, or put the text encoder's "
                        f"{TEXT_CONFIG_FILE} beside {CONFIG_FILE}") from error
    raise UserError(where, f"{what} cannot be loaded ({_last_words(error)})",
                    "it may be damaged or cut short, or no checkpoint of this model") from error


def _first_mismatch(text: str) -> str | None:
    if found := re.search(r"size mismatch for (\S+): .*?Size\((.*?)\) from .*?Size\((.*?)\)", text):
        return f"'{found[1]}' is {found[2]} in the checkpoint, {found[3]} in the model"
    if found := re.search(r'Missing key\(s\) in state_dict: "(.*?)"', text):
        return f"it lacks '{found[1]}'"
    if found := re.search(r'Unexpected key\(s\) in state_dict: "(.*?)"', text):
        return f"the model has no '{found[1]}'"
    return None


def _is_offline(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionError) or "connect" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _last_words(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split("Last error: ")[-1][:200]
