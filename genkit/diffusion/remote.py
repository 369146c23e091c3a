"""A text-to-image model on another machine, through huggingface_hub.InferenceClient: an Inference Endpoint or any server that speaks the same protocol
({"inputs": prompt, "parameters": {...}}, answered with the bytes of a picture), a model of the Hub's Inference Providers, or, at an address that ends in /v1,
OpenAI's /v1/images/generations, for which the library has no call of its own.

It draws like any other model of the family; what else a model here can do - steps, words, branches, edits - it cannot, and says so. Only the host of the
page names the address; the key comes from the environment and goes nowhere but there.
"""

from __future__ import annotations

import base64
import io
import json
import queue
import threading
import time
from collections.abc import Iterator

from PIL import Image

from genkit import remote
from genkit.core import Problem

CONNECT, SILENCE = 10, 180  # seconds: until the server takes the call, and until the picture is there
PULSE = 0.5  # seconds; so often somebody who waits is asked whether they still want the picture
MOST = 32 << 20  # bytes of an answer
LARGEST = 4096 * 4096  # pixels
FORMATS = ("PNG", "JPEG", "WEBP")
_here = threading.local()  # the request of this thread


class Endpoint:
    """A model of the diffusion family that runs elsewhere. Raises Problem for an address that is none, and for a model of the Hub without a key."""

    def __init__(self, url: str, model: str = "", key: str = ""):
        parts, model = remote.parsed(url) if url else None, model.strip()
        if (url and parts is None) or (not url and model.count("/") != 1):
            raise Problem(
                "an image endpoint is an address such as http://127.0.0.1:8000 or http://127.0.0.1:8000/v1 (without a name, password or key in it), or the "
                "owner/name of a model of the Inference Providers; got '{url}' and '{model}'",
                "图片端点是一个地址（如 http://127.0.0.1:8000 或 http://127.0.0.1:8000/v1，其中不含用户名、密码或密钥），或推理服务商处模型的 所有者/名称；"
                "收到的是“{url}”和“{model}”",
                url=remote.shown(url),
                model=model[:60],
            )
        if not url and not key:
            raise Problem(
                "{model} is drawn by the Inference Providers of the Hub, which want a key: set GENKIT_IMAGE_KEY to a Hugging Face token",
                "{model} 由 Hub 的推理服务商绘制，需要密钥：请把 GENKIT_IMAGE_KEY 设为 Hugging Face 令牌",
                model=model,
            )
        base = url.rstrip("/").removesuffix("/images/generations")
        self.url, self.model, self._key = base, model, key
        self.openai = base.endswith("/v1")
        self.host = parts.netloc if parts else "Inference Providers"
        self.name = f"{model or 'image model'} at {self.host}"

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        raise self.only()

    def only(self) -> Problem:
        """Why there is nothing to look back at."""
        return Problem(
            "{name} runs on another server, which sends the finished picture only: no steps, no words, no edits; choose a model that runs here",
            "{name} 运行在另一台服务器上，只送来画好的图片：没有步骤，看不到词语的作用，也不能编辑；请选择在本机运行的模型",
            name=self.name,
        )

    def draw(self, settings: dict) -> Iterator[tuple[list[Image.Image], int, tuple]]:
        """(pictures so far, how many of n, remarks), also while the server is silent; a picture for each seed. Raises Problem for every way in which it fails."""
        made, remarks, wide = [], [], settings["size"]
        for index in range(settings["n"]):
            for picture in self._waited({**settings, "seed": settings["seed"] + index}):
                if picture is None:
                    yield made, index, ()
                    continue
                made = [*made, picture]
                if wide and picture.size != (wide, wide):
                    got = f"{picture.width} × {picture.height}"
                    remarks = [(f"{wide} × {wide} pixels were asked for; the server sent {got}.", f"请求的是 {wide} × {wide} 像素，服务器送来的是 {got}。")]
        yield made, settings["n"], tuple(remarks)

    def _waited(self, settings: dict) -> Iterator[Image.Image | None]:
        """None every PULSE, then the picture. Closing the iterator ends the request at its next byte."""
        inbox, wanted, end = queue.SimpleQueue(), threading.Event(), time.monotonic() + SILENCE
        wanted.set()
        threading.Thread(target=self._fetch, args=(settings, inbox, wanted, end), name="image-endpoint", daemon=True).start()
        try:
            while True:
                try:
                    got = inbox.get(timeout=PULSE)
                except queue.Empty:
                    if time.monotonic() > end:
                        raise self._problem("silent", seconds=SILENCE) from None
                    yield None
                    continue
                if isinstance(got, Problem):
                    raise got
                yield got
                return
        finally:
            wanted.clear()

    def _fetch(self, settings: dict, inbox: queue.SimpleQueue, wanted: threading.Event, end: float) -> None:
        """The thread of one request."""
        _here.request = (wanted, end)
        try:
            self._prepare()
            inbox.put(self._checked(self._openai(settings) if self.openai else self._inference(settings)))
        except Exception as error:
            inbox.put(self._explained(error))

    def _prepare(self) -> None:
        """Every answer of this thread is cut off when it is too large, too slow or not wanted any more."""
        from huggingface_hub import get_session

        if self.url:
            remote.open_offline(remote.parsed(self.url).hostname)
        session = get_session()
        if _watched not in session.event_hooks["response"]:
            session.event_hooks = {**session.event_hooks, "response": [*session.event_hooks["response"], _watched]}

    def _inference(self, settings: dict) -> Image.Image:
        from huggingface_hub import InferenceClient

        side = settings["size"] or None
        # without a key the library would send the host's own Hugging Face token
        with InferenceClient(api_key=self._key or "none", timeout=remote.patience(SILENCE, CONNECT)) as client:
            return client.text_to_image(
                settings["prompt"],
                negative_prompt=settings["negative_prompt"] or None,
                width=side,
                height=side,
                num_inference_steps=settings["num_inference_steps"],
                guidance_scale=settings["guidance_scale"],
                seed=settings["seed"],
                model=self.url or self.model,
            )

    def _openai(self, settings: dict) -> Image.Image:
        """The protocol knows a prompt, a model and a size; the rest is the server's affair."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        size = {"size": f"{settings['size']}x{settings['size']}"} if settings["size"] else {}
        body = {"model": self.model, "prompt": settings["prompt"], "n": 1, "response_format": "b64_json", **size}
        headers, limits = {"Authorization": f"Bearer {self._key or 'none'}"}, remote.patience(SILENCE, CONNECT)
        with get_session().stream("POST", f"{self.url}/images/generations", json=body, headers=headers, timeout=limits) as response:
            hf_raise_for_status(response)
            picture = json.loads(response.read())["data"][0]["b64_json"]
        return Image.open(io.BytesIO(base64.b64decode(picture)))

    def _checked(self, picture: Image.Image) -> Image.Image:
        """The picture, decoded; of a format that runs nothing, and of a size that fits."""
        if picture.format not in FORMATS or picture.width * picture.height > LARGEST:
            raise self._problem("large" if picture.format in FORMATS else "nonsense", size=f"{picture.width} × {picture.height}")
        return picture.convert("RGB")

    # --- what can go wrong, as sentences

    def _problem(self, which: str, **values) -> Problem:
        return Problem(*_SENTENCES[which], name=self.name, host=self.host, model=self.model or "?", **values)

    def _explained(self, error: Exception) -> Problem:
        """What a request raised, as one clear sentence with the remedy; never with the key in it."""
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

        if isinstance(error, Problem):
            return error
        kinds = remote.kinds(error)
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            which = {401: "key", 403: "key", 404: "model", 405: "model", 429: "busy"}.get(status, "refused" if status < 500 else "status")
            return self._problem(which, status=status, error=remote.words_of(error.response, self._key))
        if isinstance(error, _TooMuch):
            return self._problem("large", size="32 MB")
        if isinstance(error, InferenceTimeoutError | TimeoutError) or "TimeoutException" in kinds:
            connecting = "ConnectTimeout" in kinds or "ConnectTimeout" in repr(error.__cause__)
            return self._problem("down" if connecting else "silent", seconds=SILENCE)
        if not self.url and isinstance(error, ValueError | StopIteration):  # what the library says of a model that nobody provides
            return self._problem("model", error=remote.plain(str(error), self._key))
        return self._problem("down" if "TransportError" in kinds or "OfflineModeIsEnabled" in kinds else "nonsense")


class _TooMuch(Exception):
    """More bytes than a picture has."""


def _watched(response) -> None:
    """A hook of the library's session: for the threads here, the answer is read under watch."""
    request = getattr(_here, "request", None)
    if request is not None:
        if int(response.headers.get("content-length", 0)) > MOST:
            raise _TooMuch
        response.stream = _Watched(response.stream, *request)


def _Watched(stream, wanted: threading.Event, end: float):
    """The stream, until it is too long, too slow or not wanted."""
    from httpx2 import SyncByteStream

    class Watched(SyncByteStream):
        def __iter__(self):
            seen = 0
            for chunk in stream:
                seen += len(chunk)
                if seen > MOST:
                    raise _TooMuch
                if time.monotonic() > end or not wanted.is_set():
                    raise TimeoutError
                yield chunk

        def close(self):
            stream.close()

    return Watched()


_SENTENCES = {
    "down": (
        "no answer from {host}; whoever runs this page should check that the image endpoint is running and can be reached, or choose a model that runs here",
        "{host} 没有应答；请运行本页面的人检查图片端点是否在运行、能否连通，或选择在本机运行的模型",
    ),
    "silent": (
        "{host} has sent no picture for {seconds} seconds; it may be overloaded: try again later, or choose a model that runs here",
        "{host} 已有 {seconds} 秒没有送来图片，可能过载：请稍后再试，或选择在本机运行的模型",
    ),
    "key": (
        "{host} does not accept the key of this page; whoever runs it should set GENKIT_IMAGE_KEY to a valid one and start it again",
        "{host} 不接受本页面的密钥；请运行本页面的人把 GENKIT_IMAGE_KEY 设为有效的密钥并重新启动",
    ),
    "model": (
        "{host} has no model {model} or does not speak this protocol ({error}); whoever runs this page should check --image-model and --image-endpoint",
        "{host} 上没有模型 {model}，或它不支持此协议（{error}）；请运行本页面的人检查 --image-model 与 --image-endpoint",
    ),
    "busy": ("{host} has too many requests; try again in a minute", "{host} 请求过多；请过一分钟再试"),
    "refused": (
        "{host} refused the request: {error}; write another prompt, or reset the settings under More",
        "{host} 拒绝了请求：{error}；请换一句提示词，或把“更多”里的设置恢复原样",
    ),
    "status": ("{host} answered with error {status}; try again in a few minutes", "{host} 返回错误 {status}；请过几分钟再试"),
    "nonsense": (
        "{host} answered something that is no PNG, JPEG or WebP picture; whoever runs this page should check --image-endpoint (OpenAI's protocol is spoken at an address that ends in /v1)",
        "{host} 的回答不是 PNG、JPEG 或 WebP 图片；请运行本页面的人检查 --image-endpoint（地址以 /v1 结尾时使用 OpenAI 协议）",
    ),
    "large": (
        "the answer of {host} is too large for a picture ({size}); ask for a smaller one, or choose a model that runs here",
        "{host} 的回答对一张图片来说太大了（{size}）；请要求更小的图片，或选择在本机运行的模型",
    ),
}
