"""A server that draws one-coloured pictures in the two protocols of image endpoints. `mode` makes it misbehave."""

import base64
import io
import json
import time
from contextlib import suppress

from PIL import Image

from .hub import Quiet, Server

ERRORS = {
    "key": (401, "Incorrect API key provided: sk-secret"),
    "model": (404, "The model `nobody` does not exist."),
    "prompt": (400, "the prompt was flagged"),
    "busy": (429, "slow down"),
    "fallen": (503, "no healthy upstream"),
}


def png(side, seed=0, kind="PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), ((seed * 37) % 256, 80, 120)).save(file, kind)
    return file.getvalue()


class Painter(Server):
    def __init__(self):
        self.mode, self.asked, self.keys, self.paths, self.broken = "", [], [], [], 0
        super().__init__(Paint)


class Paint(Quiet):
    def do_POST(self):
        server, asked = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(asked), server.keys.append(self.headers.get("Authorization")), server.paths.append(self.path)
        with suppress(OSError):  # whoever asked has gone
            self.answer(server.mode, asked)

    def answer(self, mode, asked):
        if mode in ERRORS:
            status, message = ERRORS[mode]
            return self.whole(status, "application/json", json.dumps({"error": {"message": message}}).encode())
        if mode in ("page", "nothing", "script"):
            body = {"page": b"<html>Welcome to nginx!</html>", "nothing": b"", "script": png(8, kind="EPS")}[mode]
            return self.whole(200, "image/png", body)
        if mode == "silent":
            time.sleep(1.5)
        if mode == "huge":
            return self.whole(200, "image/png", b"", length=10**10)
        if mode in ("endless", "dripping"):
            return self.stream(mode)
        if mode == "bomb":
            return self.whole(200, "image/png", png(4200))
        if self.path == "/v1/images/generations":
            side = 32 if mode == "small" else int(asked.get("size", "64x64").split("x")[0])
            return self.whole(200, "application/json", json.dumps({"data": [{"b64_json": base64.b64encode(png(side)).decode()}]}).encode())
        side = 32 if mode == "small" else asked["parameters"].get("width", 64)
        self.whole(200, "image/png", png(side, asked["parameters"].get("seed", 0)))

    def whole(self, status, kind, body, length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or length is not None

    def stream(self, mode):
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                data = b"\0" * (1 << 20 if mode == "endless" else 1)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
                time.sleep(0 if mode == "endless" else 0.1)
        except OSError:
            self.server.broken += 1
            raise
