"""A server that speaks OpenAI's protocol with a real model behind it: /v1/chat/completions and /v1/completions, streamed. `mode` makes it misbehave."""

import json
import time
from contextlib import suppress

from genkit import text
from genkit.text.model import character_tokenizer, network

from .hub import Quiet, Server

TEMPLATE = "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
ERRORS = {
    "key": (401, "Incorrect API key provided: sk-secret"),
    "model": (404, "The model `nobody` does not exist."),
    "context": (400, "maximum context length is 96 tokens"),
    "busy": (429, "slow down"),
    "fallen": (503, "no healthy upstream"),
}


def chat_model(context_length: int = 96, seed: int = 0):
    """An untrained network of characters with a chat template: whatever it is asked, it answers noise, and never ends."""
    from genkit import core

    tokenizer = character_tokenizer("abcdefghijklmnopqrstuvwxyz <>`![]()/=.\n你好" * 2, 100)
    tokenizer.chat_template = TEMPLATE
    config = text.Config(corpus="python", n_layer=1, n_head=2, n_embd=32, context_length=context_length)
    return core.build(lambda: network(config, tokenizer), seed).eval()


class Speaker(Server):
    """One model under the name `tiny`; remembers what it was sent."""

    def __init__(self, model):
        self.model, self.mode, self.asked, self.keys, self.seen, self.sent = model, "", [], [], [], 0
        self.script = None  # what it says instead of what its model says
        super().__init__(Talk)


class Talk(Quiet):
    def do_GET(self):
        self.server.seen.append(self.path)
        self.whole(404, "text/plain", "")

    def do_POST(self):
        server, asked = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, asked))
        server.keys.append(self.headers.get("Authorization"))
        if server.mode in ERRORS or asked["model"] != "tiny" or self.path not in ("/v1/chat/completions", "/v1/completions"):
            status, message = ERRORS.get(server.mode, ERRORS["model"])
            return self.whole(status, "application/json", json.dumps({"error": {"message": message, "code": status}}))
        if server.mode == "page":
            return self.whole(200, "text/html", "<html>Welcome to nginx!</html>")
        if server.mode == "chats only" and self.path == "/v1/completions":
            return self.whole(404, "application/json", '{"detail": "Not Found"}')
        if server.mode == "silent":
            time.sleep(2)
            return self.whole(200, "text/event-stream", "")
        with suppress(OSError):  # whoever asked has gone
            self.speak(asked)

    def whole(self, status: int, kind: str, body: str):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def speak(self, asked: dict):
        """The stream: an event for each piece, one with the reason why it ends, one with the counts, [DONE]."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chats, server = "messages" in asked, self.server
        if chats:
            self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for index, piece in enumerate(self.pieces(asked)):
            if server.mode in ("break", "told", "garbage") and index == 3:
                return self.misbehave(server.mode)
            self.event({"choices": [{"index": 0, **({"delta": {"content": piece}} if chats else {"text": piece}), "finish_reason": None}]})
            server.sent += 1
        self.event({"choices": [{"index": 0, **({"delta": {}} if chats else {"text": ""}), "finish_reason": "length"}]})
        self.event({"choices": [], "usage": {"total_tokens": 7}})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def pieces(self, asked: dict):
        if self.server.script is not None:
            yield from self.server.script
            return
        prompt = text.given(self.server.model, asked["messages"]).prompt if "messages" in asked else asked["prompt"]
        n = 10**6 if self.server.mode == "endless" else asked["max_tokens"]
        for piece, _ in text.pieces(self.server.model, prompt, max_new_tokens=n, temperature=asked["temperature"], seed=asked["seed"]):
            yield piece

    def misbehave(self, mode: str):
        if mode == "told":
            self.event({"error": {"message": "CUDA out of memory", "type": "server_error"}})
            self.chunk(b"")
        elif mode == "garbage":
            self.chunk(b"data: {this is no JSON\n\n")
            self.chunk(b"")
        self.close_connection = True  # in the middle of a body that had not ended

    def event(self, data: dict):
        self.chunk(f"data: {json.dumps({'id': 'x', 'object': 'chunk', 'created': 1, 'model': 'tiny', **data})}\n\n".encode())

    def chunk(self, data: bytes):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
