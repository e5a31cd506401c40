from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from kt_exp import describe
from kt_exp.concepts import ConceptsSettings, instruct, load_concepts
from kt_exp.describe import contains_name

WORDS = ["a", "round", "opening", "in", "wall", "of", "grey", "stones", "and", "red"]
# Supplementary C.1, word for word.
PROMPT = (
    "Generate a small description of the ImageNet class moongate without using the word itself. "
    "The description must contain visual cues useful for recognizing the subject with low-level "
    "and accurate details. Please don't insert anything else in the response except the "
    "description.")


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint that gives `answers` by name in turn, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[str]] = {}
        self.statuses: list[int] = []  # to fail with before answering
        self.body: bytes | None = None  # to answer with, in place of a completion
        self.seconds = 0.0  # to wait before answering
        self.requests: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({**body, "path": self.path,
                                     "key": self.headers["Authorization"]})
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        if self.server.seconds:
            time.sleep(self.server.seconds)
        if self.server.body is not None:
            self._send(self.server.body)
            return
        prompt = body["messages"][0]["content"]
        [answers] = [some for name, some in self.server.answers.items() if f" {name} " in prompt]
        text = answers.pop(0) if len(answers) > 1 else answers[0]
        self._send(json.dumps({"choices": [{"message": {"content": text}}]}).encode())

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Call `kt_exp.describe` for names; return the exit code, the set and standard error."""
    def run(names: str, *arguments: str) -> tuple[int, dict, str]:
        (tmp_path / "names.txt").write_text(names, encoding="utf-8")
        out = tmp_path / "toys.yaml"
        with pytest.raises(SystemExit) as ended:
            describe.main(["--names", str(tmp_path / "names.txt"), "--out", str(out), *arguments])
        content = yaml.safe_load(out.read_text(encoding="utf-8")) if out.exists() else {}
        return ended.value.code or 0, content, capsys.readouterr().err
    return run


def endpoint(server: Server) -> list[str]:
    return ["--endpoint", server.url, "--endpoint-model", "llama-3"]


def test_writes_a_concept_set_with_model_and_prompt_as_its_source(server, call, tmp_path) -> None:
    server.answers = {"moongate": ['"A round\n opening in a wall."'], "zorb": ["A clear ball."]}

    code, content, _ = call("# toys\nmoongate\n\n zorb \n", *endpoint(server))

    assert code == 0
    assert content["name"] == "toys"
    assert content["source"].startswith("llama-3, prompt of arXiv 2411.15611 supplementary, C.1: "
                                        "Generate a small description of the ImageNet class {} ")
    concepts = load_concepts(ConceptsSettings(
        name="file", source="", path=str(tmp_path / "toys.yaml"), items=[], only=[],
        exchange="none", on_long_caption="error"))
    assert [(concept.name, concept.description) for concept in concepts] == [
        ("moongate", "A round opening in a wall."), ("zorb", "A clear ball.")]


def test_asks_with_the_papers_prompt_and_the_key_of_the_environment(
        server, call, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    server.answers = {"moongate": ["A round opening."]}
    call("moongate", *endpoint(server), "--temperature", "0.3")
    [request] = server.requests
    assert request["messages"] == [{"role": "user", "content": PROMPT}]
    assert (request["path"], request["model"], request["key"], request["temperature"]) == (
        "/v1/chat/completions", "llama-3", "Bearer sesame", 0.3)


def test_asks_again_where_the_name_is_in_the_answer(server, call) -> None:
    server.answers = {"moongate": ["A moon-gate is round.", "Moongates.", "", "A round opening."]}
    code, content, _ = call("moongate", *endpoint(server))
    assert code == 0
    assert content["items"] == [{"name": "moongate", "description": "A round opening."}]
    assert len(server.requests) == 4


def test_names_that_cannot_be_avoided_are_listed_and_the_others_kept(server, call) -> None:
    server.answers = {"moongate": ["A moongate."], "zorb": ["A clear ball."]}
    code, content, err = call("moongate\nzorb", *endpoint(server), "--retries", "2")
    assert code == 1
    assert [item["name"] for item in content["items"]] == ["zorb"]
    assert err.startswith("kt_exp.describe: error: no description without the name in 3 attempts: "
                          "moongate;")
    assert len(server.requests) == 4


def test_goes_on_where_it_stopped(server, call) -> None:
    server.answers = {"moongate": ["A round opening."], "zorb": ["A clear ball."]}
    server.statuses = []
    call("zorb", *endpoint(server))
    code, content, _ = call("moongate\nzorb", *endpoint(server))
    assert code == 0
    assert [item["name"] for item in content["items"]] == ["moongate", "zorb"]
    assert len(server.requests) == 2  # the zorb was not asked for again


def test_what_is_done_is_kept_when_the_server_goes_away(server, call) -> None:
    server.answers = {"moongate": ["A round opening."], "zorb": ["A clear ball."]}
    original = Handler.do_POST

    def refuse_second(handler: Handler) -> None:
        if len(handler.server.requests) == 1:
            handler.server.statuses = [401]
        original(handler)

    Handler.do_POST = refuse_second
    try:
        code, content, err = call("moongate\nzorb", *endpoint(server))
    finally:
        Handler.do_POST = original
    assert code == 2
    assert "--endpoint: 401 Unauthorized; set OPENAI_API_KEY" in err
    assert [item["name"] for item in content["items"]] == ["moongate"]


def test_a_busy_server_is_asked_again(server, call, monkeypatch) -> None:
    waited = []
    monkeypatch.setattr(instruct.time, "sleep", waited.append)
    server.answers, server.statuses = {"zorb": ["A clear ball."]}, [429, 503]
    assert call("zorb", *endpoint(server))[0] == 0
    assert waited == [1, 4]


def test_a_server_that_stays_busy_is_named_after_four_attempts(server, call, monkeypatch) -> None:
    monkeypatch.setattr(instruct, "WAITS", (0, 0, 0))
    server.statuses = [503] * 9
    code, _, err = call("zorb", *endpoint(server))
    assert (code, "--endpoint: 503 Service Unavailable" in err) == (2, True)
    assert len(server.requests) == 4


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}", b'{"choices": []}',
                                  b'{"choices": [{"message": "A round opening."}]}'])
def test_an_answer_of_another_kind_is_told_in_one_line(server, call, body) -> None:
    server.body = body
    code, _, err = call("zorb", *endpoint(server))
    assert code == 2
    assert err == ("kt_exp.describe: error: --endpoint: the answer is not that of a chat "
                   "completion; give the address that /chat/completions is below\n")


def test_a_server_that_takes_too_long_is_told_in_one_line(server, call, monkeypatch) -> None:
    monkeypatch.setattr(instruct, "TIMEOUT_SECONDS", 0.2)
    server.answers, server.seconds = {"zorb": ["A clear ball."]}, 0.6
    code, _, err = call("zorb", *endpoint(server))
    assert (code, "--endpoint: no answer: timed out; is the server" in err) == (2, True)


def test_the_address_may_have_any_path_and_a_slash_at_its_end(server, call) -> None:
    server.answers = {"zorb": ["A clear ball."]}
    url = server.url.replace("/v1", "/team/openai/")
    assert call("zorb", "--endpoint", url, "--endpoint-model", "gpt")[0] == 0
    assert server.requests[0]["path"] == "/team/openai/chat/completions"


def test_an_endpoint_is_no_matter_of_the_hub(server, call, monkeypatch) -> None:
    """It is not sent the hub's token, and is reached while the hub is switched off."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.answers = {"zorb": ["A clear ball."]}
    assert call("zorb", *endpoint(server))[0] == 0
    assert "hf_secret" not in json.dumps(server.requests)
    assert constants.HF_HUB_OFFLINE is True


@pytest.mark.parametrize("key", ["sesame\nopen", "sésame"])
def test_a_key_that_cannot_be_sent_is_not_printed(server, call, monkeypatch, key) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    code, _, err = call("zorb", *endpoint(server))
    assert (code, err) == (2, "kt_exp.describe: error: OPENAI_API_KEY: has characters that cannot "
                              "be sent; set it to the key\n")


def test_does_not_mix_models_in_one_set(server, call) -> None:
    server.answers = {"zorb": ["A clear ball."]}
    call("zorb", *endpoint(server))
    code, _, err = call("zorb\nmoongate", "--endpoint", server.url, "--endpoint-model", "gpt")
    assert (code, "was made by another model or prompt" in err) == (2, True)


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a chat template, saved as the library saves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)},
                                           unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tiny_llama")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>",
                                   unk_token="<unk>")
    fast.chat_template = ("{% for message in messages %}<s> {{ message.content }} </s>{% endfor %}"
                          "{% if add_generation_prompt %}<s>{% endif %}")
    fast.save_pretrained(folder)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, bos_token_id=0, eos_token_id=1)).save_pretrained(folder)
    return folder


def test_a_local_model_answers_and_answers_the_same_again(tiny_llama, call, tmp_path) -> None:
    arguments = ["--model", str(tiny_llama), "--max-tokens", "12"]
    code, content, err = call("moongate\nzorb", *arguments)
    assert code == 0, err
    for item in content["items"]:
        assert set(item["description"].split()) <= set(WORDS)
    (tmp_path / "toys.yaml").unlink()
    assert call("moongate\nzorb", *arguments)[1] == content


def test_a_model_without_a_chat_template_is_refused(tiny_llama, call, tmp_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "base")
    code, _, err = call("zorb", "--model", str(tmp_path / "base"))
    assert (code, "has no chat template; choose an instruct model" in err) == (2, True)


@pytest.mark.parametrize(("names", "arguments", "message"), [
    ("zorb", ["--model", "/nowhere"], "--model: '/nowhere' is neither here nor to be fetched"),
    ("zorb", ["--endpoint", "localhost", "--endpoint-model", "a"], "--endpoint: 'localhost' is no"),
    ("zorb", ["--endpoint", "http://127.0.0.1:9/v1", "--endpoint-model", "a"],
     "--endpoint: no answer: [Errno 111] Connection refused"),
    ("zorb", ["--endpoint", "http://127.0.0.1:9/v1"], "--endpoint: needs --endpoint-model"),
    ("zorb", ["--prompt", "Describe it."], "--prompt: has no {}"),
    ("zorb", ["--temperature", "0"], "--temperature: 0.0 is too small"),
    ("zorb\nZorb", [], "names.txt: two concepts of one name: 'zorb' and 'Zorb'"),
    ("# nothing\n", [], "names.txt: holds no names"),
    ("zorb", ["--retries", "x"], "command line: argument --retries: invalid int value: 'x'"),
])
def test_bad_input_is_one_line_and_exit_2(call, names, arguments, message) -> None:
    code, content, err = call(names, *arguments)
    assert (code, content) == (2, {})
    assert message in err
    assert err.startswith("kt_exp.describe: error: ")
    assert err.count("\n") == 1


def test_a_set_that_is_no_yaml_or_has_no_folder_is_refused(call, tmp_path) -> None:
    for out, message in ((tmp_path / "set.txt", "is no YAML file"),
                         (tmp_path / "new" / "set.yaml", "no such folder")):
        code, _, err = call("zorb", "--out", str(out))
        assert (code, message in err) == (2, True)


@pytest.mark.parametrize(("text", "name", "held"), [
    ("A Moongate in a wall", "moongate", True),
    ("two moon-gates", "moongate", True),
    ("the moon gate's arch", "moongate", True),
    ("a round gate under the moon", "moongate", False),
    ("pretties", "tie", False),
    ("several teddy-bears", "teddy bear", True),
    ("a soft bear", "teddy bear", False),
    ("a ski on snow", "skis", True),
    ("many dishes", "dish", True),
    ("cherries", "cherry", True),
    ("two knives", "knife", True),
    ("firemen", "fireman", True),
    ("an X ray image", "X-ray", True),
])
def test_finds_the_name_in_its_variants(text: str, name: str, held: bool) -> None:
    assert contains_name(text, name) is held
