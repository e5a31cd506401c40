"""Answers of an instruct model, run locally with transformers or behind an HTTP endpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from typing import Any

from huggingface_hub import InferenceClient, constants
from huggingface_hub.errors import HfHubHTTPError

from kt_exp.errors import UserError

KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_SECONDS = 120
BUSY = {429, 500, 502, 503, 504}
WAITS = (1, 4, 16)  # seconds before the retries with a busy endpoint
REMEDIES = {401: f"set {KEY_VARIABLE}", 403: f"set {KEY_VARIABLE}",
            404: "check the address and --endpoint-model"}


@dataclass(frozen=True)
class Draw:
    """How an answer is sampled.

    Attributes:
        temperature: above 0.
        top_p: probability mass to sample from, in (0, 1].
        max_tokens: maximum length of an answer.
        seed: for sampling from a local model; it is not sent to an endpoint.
    """

    temperature: float
    top_p: float
    max_tokens: int
    seed: int


def ask_local(model: str, draw: Draw) -> Callable[[str, int], str]:
    """Return a function `(prompt, attempt) → answer` of a local transformers model.

    Weights keep their stored precision; a GPU is used if there is one. On one machine the same
    prompt and attempt give the same answer.

    Raises:
        UserError: the model is not on this machine and cannot be downloaded, or has no chat
            template.
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
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True,
            return_tensors="pt", return_dict=True).to(device)
        torch.manual_seed(draw.seed + attempt)
        with torch.inference_mode():
            tokens = network.generate(
                **inputs, do_sample=True, temperature=draw.temperature, top_p=draw.top_p,
                max_new_tokens=draw.max_tokens, pad_token_id=padding)
        new = tokens[0, inputs["input_ids"].shape[1]:]
        return tokenizer.decode(new, skip_special_tokens=True)

    return answer


def ask_endpoint(url: str, model: str, draw: Draw) -> Callable[[str, int], str]:
    """Return a function `(prompt, attempt) → answer` of an OpenAI-compatible server.

    `url` is the base address of `/chat/completions` (`http://localhost:8000/v1`). The key is read
    from OPENAI_API_KEY, if set. A busy server is tried again after 1, 4 and 16 s.

    Raises:
        UserError: `url` is no http(s) address, or the key cannot be sent. The returned function
            raises it if the server refuses, fails, cannot be reached, does not answer within two
            minutes, or sends another kind of answer.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError("--endpoint", f"'{url}' is no address", "give http://HOST:PORT/v1")
    # Given the full path, the client does not append one.
    client = InferenceClient(base_url=f"{url.rstrip('/')}/chat/completions", api_key=_api_key(),
                             timeout=TIMEOUT_SECONDS)

    def answer(prompt: str, attempt: int) -> str:
        def ask() -> str:
            completion = client.chat_completion(
                [{"role": "user", "content": prompt}], model=model, temperature=draw.temperature,
                top_p=draw.top_p, max_tokens=draw.max_tokens)
            return str(completion.choices[0].message.content or "")

        return _answered(ask)

    return answer


def _api_key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):  # The HTTP library's error would print it.
        raise UserError(KEY_VARIABLE, "has characters that cannot be sent", "set it to the key")
    # Without any key the client would send the user's Hugging Face token.
    return key or "none"


def _answered(ask: Callable[[], str]) -> str:
    """Return the result of `ask`, trying again while the server is busy."""
    for wait in (*WAITS, None):
        try:
            with _any_server_allowed():
                return ask()
        except HfHubHTTPError as error:
            code = error.response.status_code
            if code not in BUSY or wait is None:
                raise UserError("--endpoint", f"{code} {responses.get(code, '')}".strip(),
                                REMEDIES.get(code, "")) from error
            time.sleep(wait)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError("--endpoint", "the answer is not that of a chat completion",
                            "give the address that /chat/completions is below") from error
        except Exception as error:  # The hub's versions use different HTTP libraries.
            reason = "timed out" if isinstance(error, TimeoutError) else _first_line(error)
            raise UserError("--endpoint", f"no answer: {reason}",
                            "is the server running?") from error
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _any_server_allowed() -> Iterator[None]:
    """Ignore HF_HUB_OFFLINE, which is meant for the hub but blocks the client for all servers."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _load(kind: Any, model: str, **options: Any) -> Any:
    # Imported here: it brings open_clip, which an endpoint does not need.
    from kt_exp.offline import fails_fast_offline
    from kt_exp.remote_code import never_run

    folder = Path(model).expanduser()
    try:
        with fails_fast_offline(not folder.is_dir()), never_run(folder, "--model"):
            return kind.from_pretrained(str(folder) if folder.is_dir() else model,
                                        trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise UserError("--model", f"'{model}' is neither here nor to be fetched "
                        f"({_first_line(error)})",
                        "give the folder of an instruct model, or use --endpoint") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
