"""A language model on another machine, behind the protocol that vLLM, TGI, llama.cpp, SGLang and others share: OpenAI's /v1/chat/completions and /v1/completions.

It writes like any other model of the family, through pieces(); what else a model here can do - chances, attention, perplexity - it cannot, and says so.
Only the host of the page names the address; the key, if the server wants one, comes from the environment and goes nowhere but there.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator

from genkit import remote
from genkit.core import Problem

CONNECT, SILENCE = 10, 120  # seconds: until the server takes the call, and between two of its words
PULSE = 0.25  # seconds; so often somebody who waits is asked whether they still want the answer


class Endpoint:
    """A model of the text family that runs elsewhere. Raises Problem for an address that is none."""

    def __init__(self, url: str, model: str, key: str = ""):
        parts = remote.parsed(url)
        if parts is None or not model.strip():
            raise Problem(
                "a text endpoint is an address such as http://127.0.0.1:8000/v1 (without a name, password or key in it) and the name of a model on it; got '{url}' and '{model}'",
                "文本端点由地址（如 http://127.0.0.1:8000/v1，其中不含用户名、密码或密钥）和该服务器上的模型名组成；收到的是“{url}”和“{model}”",
                url=remote.shown(url),
                model=model[:60],
            )
        base = url.rstrip("/").removesuffix("/chat/completions")
        self.url, self.host, self.model, self._key = base if base.endswith("/v1") else f"{base}/v1", parts.netloc, model.strip(), key
        self.name = f"{self.model} at {self.host}"

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        raise Problem(
            "{name} runs on another server, which sends its words only: no chances, attention or perplexity; choose a model that runs here",
            "{name} 运行在另一台服务器上，只送来文字，不提供概率、注意力或困惑度；请选择在本机运行的模型",
            name=self.name,
        )

    def pieces(
        self, prompt: str | list[dict], *, max_new_tokens=200, temperature=0.8, top_k=0, top_p=1.0, repetition_penalty=1.0, seed=0
    ) -> Iterator[tuple[str, None]]:
        """As sampling.pieces(), of a text to go on with or the messages of a conversation; how surprising a piece was is unknown, None.

        While the server is silent, an empty piece comes every PULSE. Closing the iterator ends the request. Raises Problem for every way in which it fails.
        """
        settings = {"temperature": temperature, "top_p": top_p, "seed": seed, "max_tokens": max_new_tokens}
        # no part of the protocol: vLLM and SGLang know both, others ignore or refuse them, so they are sent only if they ask for something
        more = {**({"top_k": top_k} if top_k else {}), **({"repetition_penalty": repetition_penalty} if repetition_penalty != 1 else {})}
        inbox, wanted = queue.SimpleQueue(), threading.Event()
        wanted.set()
        threading.Thread(target=self._listen, args=(prompt, settings, more, inbox, wanted), name="text-endpoint", daemon=True).start()
        try:
            while True:
                try:
                    word = inbox.get(timeout=PULSE)
                except queue.Empty:
                    word = ""
                if word is None:
                    return
                if isinstance(word, Problem):
                    raise word
                yield word, None
        finally:
            wanted.clear()

    def _listen(self, prompt, settings: dict, more: dict, inbox: queue.SimpleQueue, wanted: threading.Event) -> None:
        """The thread of one request: put every word into `inbox`, then None or a Problem, until it is not `wanted` any more."""
        words, said, ended = self._asked(prompt, settings, more), 0, False
        try:
            for word, reason in words:
                if not wanted.is_set():
                    return
                ended, said = ended or bool(reason), said + bool(word)
                if said > settings["max_tokens"]:  # a server that does not count
                    ended = True
                    break
                if word:
                    inbox.put(word)
            inbox.put(None if ended else self._problem("broken" if said else "nonsense"))
        except Exception as error:
            inbox.put(self._explained(error, said))
        finally:
            words.close()

    def _asked(self, prompt, settings: dict, more: dict) -> Iterator[tuple[str, str | None]]:
        """The words of the answer, the last one with the reason why it is the last."""
        from huggingface_hub.errors import HfHubHTTPError

        remote.open_offline(remote.parsed(self.url).hostname)
        if isinstance(prompt, list):
            yield from self._chat(prompt, settings, more)
            return
        try:
            yield from self._completion(prompt, {**settings, **more})
        except HfHubHTTPError as error:
            if error.response.status_code not in (404, 405):
                raise
            yield from self._chat([{"role": "user", "content": prompt}], settings, more)  # a server that only chats

    def _chat(self, messages: list[dict], settings: dict, more: dict) -> Iterator[tuple[str, str | None]]:
        from huggingface_hub import InferenceClient

        # without a key the library would send the host's own Hugging Face token
        with InferenceClient(base_url=self.url, api_key=self._key or "none", timeout=remote.patience(SILENCE, CONNECT)) as client:
            for chunk in client.chat_completion(messages, model=self.model, stream=True, extra_body=more, **settings):
                for choice in chunk.choices or []:
                    yield (choice.delta.content if choice.delta else None) or "", choice.finish_reason

    def _completion(self, prompt: str, settings: dict) -> Iterator[tuple[str, str | None]]:
        """InferenceClient has no call for it, so the request goes through its library's session."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        body, headers = {"model": self.model, "prompt": prompt, "stream": True, **settings}, {"Authorization": f"Bearer {self._key or 'none'}"}
        with get_session().stream("POST", f"{self.url}/completions", json=body, headers=headers, timeout=remote.patience(SILENCE, CONNECT)) as response:
            hf_raise_for_status(response)
            for line in response.iter_lines():
                data = line.removeprefix("data:").strip()
                if data == line.strip() or data == "[DONE]":  # what is no data: empty lines, comments
                    continue
                chunk = json.loads(data)
                if chunk.get("error"):
                    told = chunk["error"]
                    raise _Told(str(told.get("message", told) if isinstance(told, dict) else told))
                for choice in chunk.get("choices") or []:
                    yield choice.get("text") or "", choice.get("finish_reason")

    # --- what can go wrong, as sentences

    def _problem(self, which: str, **values) -> Problem:
        return Problem(*_SENTENCES[which], name=self.name, host=self.host, model=self.model, **values)

    def _explained(self, error: Exception, said: int) -> Problem:
        """What a request raised, as one clear sentence with the remedy; never with the key in it."""
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

        if isinstance(error, Problem):
            return error
        kinds = remote.kinds(error)
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            which = {401: "key", 403: "key", 404: "model", 429: "busy"}.get(status, "refused" if status < 500 else "status")
            return self._problem(which, status=status, error=remote.words_of(error.response, self._key))
        if isinstance(error, InferenceTimeoutError) or "TimeoutException" in kinds:
            return self._problem("silent" if "ConnectTimeout" not in kinds and "ConnectTimeout" not in repr(error.__cause__) else "down", seconds=SILENCE)
        if kinds & {"TextGenerationError", "_Told"}:  # told in the stream itself
            return self._problem("refused", error=remote.plain(str(error), self._key))
        if said:
            return self._problem("broken")
        return self._problem("down" if "TransportError" in kinds else "nonsense")


class _Told(Exception):
    """What a server says in the middle of a stream."""


_SENTENCES = {
    "down": (
        "no answer from {host}; whoever runs this page should check that the text endpoint is running and can be reached, or choose a model that runs here",
        "{host} 没有应答；请运行本页面的人检查文本端点是否在运行、能否连通，或选择在本机运行的模型",
    ),
    "silent": (
        "{host} has said nothing for {seconds} seconds; it may be overloaded: try again later, or choose a model that runs here",
        "{host} 已有 {seconds} 秒没有回应，可能过载：请稍后再试，或选择在本机运行的模型",
    ),
    "key": (
        "{host} does not accept the key of this page; whoever runs it should set GENKIT_TEXT_KEY to a valid one and start it again",
        "{host} 不接受本页面的密钥；请运行本页面的人把 GENKIT_TEXT_KEY 设为有效的密钥并重新启动",
    ),
    "model": (
        "{host} has no model {model} or does not speak this protocol ({error}); whoever runs this page should check --text-model and --text-endpoint",
        "{host} 上没有模型 {model}，或它不支持此协议（{error}）；请运行本页面的人检查 --text-model 与 --text-endpoint",
    ),
    "busy": ("{host} has too many requests; try again in a minute", "{host} 请求过多；请过一分钟再试"),
    "refused": (
        "{host} refused the request: {error}; shorten or clear the conversation, or reset the settings under More",
        "{host} 拒绝了请求：{error}；请缩短或清空对话，或把“更多”里的设置恢复原样",
    ),
    "status": ("{host} answered with error {status}; try again in a few minutes", "{host} 返回错误 {status}；请过几分钟再试"),
    "nonsense": (
        "{host} answered something that is no stream of the OpenAI protocol; whoever runs this page should check --text-endpoint",
        "{host} 的回答不是 OpenAI 协议的数据流；请运行本页面的人检查 --text-endpoint",
    ),
    "broken": (
        "the connection to {host} ended before the answer did; what has arrived stands above: try again",
        "与 {host} 的连接在回答结束前中断；已收到的内容保留在上方：请重试",
    ),
}
