"""The page in a real browser: what is sent, and the processor time of the browser until it can be used, against a bare Gradio page in the same run."""

import contextlib
import gzip
import json
import statistics
import tempfile
import textwrap
import time
from pathlib import Path

from tests.bench import processor_time, serving
from tests.bench.gallery import HELLO

VISITS = 3


def weight() -> None:
    """What the page consists of, and how many bytes describe it."""
    from demos import page

    config = page.build().get_config_file()
    sent = json.dumps(config, default=str).encode()
    endpoints = sum(component["type"] == "api" for component in config["components"])
    print(
        f"the page: {len(config['components'])} components, {endpoints} of them of endpoints alone, {len(config['dependencies'])} events; "
        f"{len(sent) / 1000:.0f} kB, packed {len(gzip.compress(sent, 4)) / 1000:.0f} kB",
        flush=True,
    )


def renderers() -> dict[int, float]:
    """The processor time that each process which shows a page of Chromium has had (Linux), by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in (folder / "cmdline").read_bytes():
                found[int(folder.name)] = processor_time(int(folder.name))
    return found


def visits(browser, address: str, ready: str) -> list[tuple[float, float]]:
    """(processor seconds of the browser, seconds by the clock) from the address to `ready`, a selector, in VISITS fresh profiles."""
    taken = []
    for _ in range(VISITS):
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.set_default_timeout(120_000)
        before, begun = renderers(), time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator(ready).first.wait_for()
        seconds = time.perf_counter() - begun
        taken.append((sum(spent - before.get(process, 0) for process, spent in renderers().items()), seconds))
        context.close()
    return taken


def run() -> None:
    from playwright.sync_api import sync_playwright

    from tests.conftest import QUIET, find_browser

    weight()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        hello = Path(folder) / "hello.py"
        hello.write_text(textwrap.dedent(HELLO.format(port=7996)))
        browser = playwright.chromium.launch(executable_path=find_browser() or None, args=QUIET)
        with serving(["app.py", "--port", "7995"], 7995), serving([str(hello)], 7996):
            visits(browser, "http://127.0.0.1:7995", "#gan-result .made")  # until the models are loaded
            for what, ready in (("its tabs", '[role="tab"]'), ("its first result", "#gan-result .made")):
                ours, bare = visits(browser, "http://127.0.0.1:7995", ready), visits(browser, "http://127.0.0.1:7996", "text=hello")
                (cpu, clock), (cpu_bare, clock_bare) = (map(statistics.median, zip(*times, strict=True)) for times in (ours, bare))
                print(
                    f"the page to {what}: {cpu:.2f} s of the browser's processor time, {clock:.2f} s by the clock; "
                    f"a bare gr.Blocks hello-world {cpu_bare:.2f} and {clock_bare:.2f}; ratio {cpu / cpu_bare:.1f} and {clock / clock_bare:.1f}",
                    flush=True,
                )
