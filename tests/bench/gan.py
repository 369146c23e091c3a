"""The GAN tab in a real browser, from a hand's move to pixels on the screen; the student against its teacher."""

import statistics

from tests.bench import at, row, serving

CLICKS, DRAGS = 20, 30
# painted(pictures) is kept in the frame after the first in which all of them are loaded: that one has been drawn by then
PAINTED = """const painted = async (pictures) => {
    await Promise.all(pictures.map((picture) => picture.complete || new Promise((done) => picture.addEventListener('load', done, {once: true}))));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  };"""
CLICK = """([count]) => new Promise((done, fail) => { PAINTED
  const shown = document.querySelector('#gan-result'), before = shown.querySelector('img').src;
  const begun = performance.now();
  const watcher = new MutationObserver(async () => {
    const pictures = [...shown.querySelectorAll('img')];
    if (pictures.length !== count || pictures[0].src === before) return;
    watcher.disconnect();
    await painted(pictures); done(performance.now() - begun);
  });
  watcher.observe(shown, {childList: true, subtree: true, attributes: true});
  [...document.querySelectorAll('button')].find((button) => button.textContent.trim() === 'Make digits').click();
  setTimeout(() => fail(new Error('no digits after a minute')), 60000);
})""".replace("PAINTED", PAINTED)
DRAG = """() => { PAINTED
  const square = document.querySelector('#gan-plane .square'), picture = document.querySelector('#gan-plane .here');
  window.dragged = new Promise((done) => square.addEventListener('pointermove', () => {
    const begun = performance.now();
    const watcher = new MutationObserver(async () => { watcher.disconnect(); await painted([picture]); done(performance.now() - begun); });
    watcher.observe(picture, {attributeFilter: ['src']});
  }, {once: true}));
}""".replace("PAINTED", PAINTED)


def report(what: str, times: list[float]) -> None:
    print(f"{what:<44} p50 {statistics.median(times):6.0f} ms   p90 {at(times, 90):6.0f} ms   best {min(times):6.0f} ms   of {len(times)}", flush=True)


def clicks(page, count: int) -> list[float]:
    """Milliseconds from the click on "Make digits" to the digits on the screen, each time with another seed."""
    page.get_by_label("number input for How many").fill(str(count))
    page.get_by_role("button", name="More").first.click()
    times = []
    for seed in range(CLICKS + 2):
        page.get_by_label("Seed", exact=True).first.fill(str(1000 + seed))
        page.keyboard.press("Tab")
        page.wait_for_timeout(200)  # what the fields have to say to the page is said
        times.append(page.evaluate(CLICK, [count]))
    return times[2:]  # the first loads what is loaded once


def drags(page) -> list[float]:
    """Milliseconds from a move of the mouse in the plane of the latent space to the picture of that place on the screen."""
    page.get_by_role("button", name="Walk through the latent space").click()
    page.locator("#gan-plane .here:not([hidden])").wait_for()
    page.locator("#gan-plane .square").scroll_into_view_if_needed()
    page.wait_for_timeout(3000)
    box = page.locator("#gan-plane .square").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    times = []
    for step in range(DRAGS):
        page.wait_for_timeout(200)
        page.evaluate(DRAG)
        page.mouse.move(box["x"] + 20 + (step + 1) * (box["width"] - 40) / DRAGS, box["y"] + 20 + (step % 7) * 9)
        times.append(page.evaluate("window.dragged"))
    page.mouse.up()
    return times


def in_the_browser() -> None:
    from playwright.sync_api import sync_playwright

    from tests.conftest import QUIET, find_browser

    with serving(["app.py", "--port", "7993"], 7993), sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=find_browser() or None, args=QUIET).new_page(locale="en-US")
        page.set_default_timeout(120_000)
        page.goto("http://127.0.0.1:7993/?tab=gan")
        page.locator("#gan-result .made").wait_for()
        report("64 digits, click to pixels", clicks(page, 64))
        report("a drag in the latent plane, move to pixels", drags(page))


def run() -> None:
    import torch

    from genkit import gan
    from genkit.gan.compare import race

    torch.set_num_threads(1)  # as in the app
    teacher, student = race([gan.load("dcgan"), gan.load("student")])
    row("64 digits by the student", student / 1000, "by dcgan, its teacher", teacher / 1000)
    in_the_browser()
