"""Answers of an instruct model: a local one through transformers, or behind an HTTP endpoint."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kt_exp.errors import UserError

KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_SECONDS = 120
BUSY = {429, 500, 502, 503, 504}
WAITS = (1, 4, 16)  # seconds before asking a busy endpoint again


@dataclass(frozen=True)
class Draw:
    """How words are drawn: `temperature` above 0, `top_p` in (0, 1]; `seed` for local models."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int


def ask_local(model: str, draw: Draw) -> Callable[[str, int], str]:
    """Return a function from a prompt and an attempt to the answer of a transformers model.

    Weights keep the precision they are stored in; a GPU is used if there is one. The same prompt
    and attempt give the same answer on one machine.

    Raises:
        UserError: no model there, none to be fetched, or one without a chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = _load(AutoTokenizer, model)
    if not tokenizer.chat_template:
        raise UserError("--model", f"'{model}' has no chat template", "choose an instruct model")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _load(AutoModelForCausalLM, model, dtype="auto").to(device).eval()
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def answer(prompt: str, attempt: int) -> str:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True,
            return_tensors="pt", return_dict=True).to(device)
        torch.manual_seed(draw.seed + attempt)
        with torch.inference_mode():
            tokens = network.generate(
                **asked, do_sample=True, temperature=draw.temperature, top_p=draw.top_p,
                max_new_tokens=draw.max_tokens, pad_token_id=padding)
        new = tokens[0, asked["input_ids"].shape[1]:]
        return tokenizer.decode(new, skip_special_tokens=True)

    return answer


def ask_endpoint(url: str, model: str, draw: Draw) -> Callable[[str, int], str]:
    """Return a function from a prompt and an attempt to the answer of an OpenAI-compatible server.

    `url` is what its paths begin with (`http://localhost:8000/v1`). The key is taken from
    OPENAI_API_KEY, if it is set. A server that is busy is asked again a few times.

    Raises:
        UserError: `url` is no http(s) address; the function: the server refuses, fails, cannot be
            reached, or answers otherwise.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError("--endpoint", f"'{url}' is no address", "give http://HOST:PORT/v1")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"

    def answer(prompt: str, attempt: int) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}],
                "temperature": draw.temperature, "top_p": draw.top_p,
                "max_tokens": draw.max_tokens}
        request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions",
                                         json.dumps(body).encode(), headers)
        content = _post(request)
        try:
            return str(content["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError) as error:
            raise UserError("--endpoint", "the answer is not that of a chat completion",
                            "give the address that /chat/completions is below") from error

    return answer


def _post(request: urllib.request.Request) -> Any:
    for wait in (*WAITS, None):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code in BUSY and wait is not None:
                time.sleep(wait)
                continue
            remedy = {401: f"set {KEY_VARIABLE}", 403: f"set {KEY_VARIABLE}",
                      404: "check the address and --endpoint-model"}.get(error.code, "")
            raise UserError("--endpoint", f"{error.code} {error.reason}", remedy) from error
        except (OSError, ValueError) as error:  # out of reach, or not JSON
            reason = getattr(error, "reason", None) or error
            raise UserError("--endpoint", f"no answer: {reason}",
                            "is the server running?") from error
    raise AssertionError("the last attempt returns or raises")


def _load(kind: Any, model: str, **options: Any) -> Any:
    # Imported here: it brings open_clip, which an endpoint does not need.
    from kt_exp.models.loading import fails_fast_offline

    folder = Path(model).expanduser()
    try:
        with fails_fast_offline(not folder.is_dir()):
            return kind.from_pretrained(str(folder) if folder.is_dir() else model, **options)
    except (OSError, ValueError) as error:
        raise UserError("--model", f"'{model}' is neither here nor to be fetched "
                        f"({str(error).strip().splitlines()[0]})",
                        "give the folder of an instruct model, or use --endpoint") from error
