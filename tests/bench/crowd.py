"""A hundred visitors at once, each of whom asks for 16 digits of a seed of their own: our app against a plain Gradio app, in turns.

The visitors speak the protocol of the page as a browser does - a question to the result itself; a POST; or /queue/join and then server-sent events,
whichever /config says - and keep their connections as browsers do, but over bare sockets: a hundred browsers would leave no processor for the server.
"""

import asyncio
import json
import time
import urllib.request
import uuid

from tests.bench import at, processor_time, serving

VISITORS, ROUNDS, DIGITS = 100, 3, 16
API = "/gradio_api"


class Visitor:
    """One who has the page open: a session, and a connection that is kept from one request to the next."""

    def __init__(self, port: int):
        self.port, self.session, self.connection = port, uuid.uuid4().hex[:11], None

    async def request(self, method: str, path: str, body: bytes = b"", again: bool = True):
        """The reader and writer of an answer whose status is 200, and its length, which a stream does not have."""
        reader, writer = self.connection or await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        self.connection = None
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        try:
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):  # closed by the server meanwhile, as it may be
            if not again:
                raise
            return await self.request(method, path, body, again=False)
        length = int(dict(field.lower().split(": ", 1) for field in fields if field).get("content-length", 0))
        if status.split()[1] != "200":
            raise RuntimeError(f"{path} answered {status}: {(await reader.readexactly(length))[:300]!r}")
        return reader, writer, length

    async def post(self, path: str, body: dict) -> bytes:
        reader, writer, length = await self.request("POST", path, json.dumps(body).encode())
        answer = await reader.readexactly(length)
        self.connection = reader, writer
        return answer

    async def visit(self, way: dict, seed: int) -> float:
        """Seconds until this visitor has the 16 digits."""
        begun = time.perf_counter()
        wish = {"variant": "dcgan", "digits": "0123456789", "n": DIGITS, "seed": seed}
        event = {"data": list(wish.values()), "fn_index": way.get("fn_index"), "session_hash": self.session}
        answer = await self.post(way["path"], event if "fn_index" in way else wish)
        if way["queue"]:
            reader, writer, _ = await self.request("GET", f"{API}/queue/data?session_hash={self.session}")
            while b'"process_completed"' not in answer:
                answer = await reader.readline()
                if not answer:
                    raise RuntimeError("the stream ended without an answer")
            writer.close()
        if b'"success":false' in answer or max(answer.count(b" download="), answer.count(b'"picture.png"')) < DIGITS:  # links in HTML, or files
            raise RuntimeError(answer[:300].decode())
        return time.perf_counter() - begun


async def round_of(way: dict, visitors: list[Visitor], first_seed: int) -> tuple[float, list[float], list[str]]:
    """Seconds that it took, those of each visitor, and what went wrong."""
    begun = time.perf_counter()
    come = await asyncio.gather(*(visitor.visit(way, first_seed + k) for k, visitor in enumerate(visitors)), return_exceptions=True)
    return time.perf_counter() - begun, [one for one in come if isinstance(one, float)], [repr(one) for one in come if not isinstance(one, float)]


def way_to(port: int, name: str) -> dict:
    """How the page asks a named endpoint, or, as a click does, for what #gan-result shows: the path, Gradio's number of it, and whether there is a queue."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/config") as answer:
        config = json.load(answer)
    (result,) = (component for component in config["components"] if component["props"].get("elem_id") == "gan-result")
    clicks = (event for event in config["dependencies"] if result["id"] in event["outputs"] and any(kind == "click" for _, kind in event["targets"]))
    event = next((event for event in config["dependencies"] if event["api_name"] == name), None) or next(clicks)
    if not event["backend_fn"]:
        return {"path": "/answer/gan", "queue": False}
    return {"path": f"{API}/queue/join" if event["queue"] else f"{API}/run/{event['api_name']}", "fn_index": event["id"], "queue": event["queue"]}


class App:
    """One of the two, and what its visitors met with."""

    def __init__(self, name: str, port: int, process, loop):
        self.name, self.port, self.pid, self.loop = name, port, process.pid, loop
        self.visitors = [Visitor(port) for _ in range(VISITORS)]

    def settle(self) -> None:
        """Wait until the server has nothing to do: ours loads the models of all tabs after its first page."""
        used = processor_time(self.pid)
        time.sleep(3)
        while processor_time(self.pid) - used > 0.2:
            used = processor_time(self.pid)
            time.sleep(3)

    def begin(self, what: str) -> None:
        self.way, self.seconds, self.used, self.times, self.errors = way_to(self.port, what), 0.0, 0.0, [], []
        self.loop.run(round_of(self.way, self.visitors, 0))  # everybody has the page open: the server knows their session

    def crowd(self, first_seed: int) -> None:
        before = processor_time(self.pid)
        seconds, times, errors = self.loop.run(round_of(self.way, self.visitors, first_seed))
        self.used += processor_time(self.pid) - before
        self.seconds, self.times, self.errors = self.seconds + seconds, self.times + times, self.errors + errors

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds

    def report(self) -> None:
        times = f"p50 {at(self.times, 50):5.2f} s   p95 {at(self.times, 95):5.2f} s   " if self.times else ""
        used = 1000 * self.used / (VISITORS * ROUNDS)
        print(
            f"  {self.name:<20} {self.rate:6.1f} requests/s   {times}{used:5.1f} ms of processor time each   {len(self.errors)} errors",
            *self.errors[:1],
            flush=True,
        )


def run() -> None:
    with serving(["app.py", "--port", "7991"], 7991) as (ours, _), serving(["-m", "tests.bench.plain", "7992"], 7992) as (theirs, _), asyncio.Runner() as loop:
        apps = [App("this gallery", 7991, ours, loop), App("a plain Gradio app", 7992, theirs, loop)]
        for app in apps:
            app.settle()
        for what in ("click", "gan_sample"):
            for app in apps:
                app.begin(what)
            for each in range(ROUNDS):
                for app in apps:
                    app.crowd(1000 * (each + 1))
            print(f"{VISITORS} visitors, {DIGITS} digits each, {'the button Make digits' if what == 'click' else '/gan_sample'}, {ROUNDS} rounds")
            for app in apps:
                app.report()
            print(f"  ratio of requests per second {apps[0].rate / apps[1].rate:5.2f}")


if __name__ == "__main__":
    run()
