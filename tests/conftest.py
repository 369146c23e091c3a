"""Fixtures: the page as `python app.py` serves it, and a real browser to look at it with."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the Hub; those of the download bring their own
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser", "chrome", "microsoft-edge", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def finished(coroutine):
    """What a coroutine returns, run on a thread of its own: Playwright's sync API leaves a running loop on the main one."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(asyncio.run, coroutine).result()


def find_browser() -> str:
    """An installed browser, else the one that playwright or Debian installs. None at all fails and says what to do."""
    found = next((path for path in (*map(shutil.which, BROWSERS), *PLACES) if path and Path(path).exists()), None)
    if found:
        return found
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True).returncode == 0:
        return ""  # playwright knows where its own is
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        subprocess.run("apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium", shell=True, capture_output=True)
    if shutil.which("chromium"):
        return shutil.which("chromium")
    pytest.fail("no browser: install Chrome, Chromium or Edge, or run `playwright install chromium`")


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path or None, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of the page, started as a visitor's host would start it, without data sets or network."""
    folder = tmp_path_factory.mktemp("server")
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",  # nor is a wheel fetched
        "GRADIO_TEMP_DIR": str(folder),
        "HF_HOME": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("GENKIT_DATA_DIR", None)
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "app.py", "--port", "7960"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield wait_for(log, process)
    finally:
        process.terminate()
        process.wait(20)


def wait_for(log: Path, process, seconds: float = 120) -> str:
    """The address that the log names, once it answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            try:
                urllib.request.urlopen(found[0], timeout=5).close()
                return found[0]
            except OSError:
                pass
        time.sleep(0.2)
    pytest.fail(f"the page did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
def visit(browser, server):
    """visit(path="/", locale="en-US", width=1280, height=800) opens the page in a fresh browser profile; page errors and foreign hosts fail the test.

    visit.hosts: whom the pages have talked to.
    """
    contexts, errors = [], []

    def open_page(path="/", *, locale="en-US", width=1280, height=800):
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: open_page.hosts.add(urlparse(request.url).netloc))
        page.goto(server + path)
        page.get_by_role("tab").first.wait_for()
        return page

    open_page.hosts = set()
    yield open_page
    for context in contexts:
        context.close()
    assert not errors
    assert open_page.hosts <= {"", urlparse(server).netloc}
