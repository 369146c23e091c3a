"""The VAE tab in a real browser, from a hand's move to pixels on the screen: on the drawing pad, and on the map of the latent plane."""

from tests.bench import serving
from tests.bench.gan import DRAG, PAINTED, report

STROKES, DRAGS = 30, 30
STROKE = """() => { PAINTED
  const canvas = document.querySelector('#vae-pad canvas'), shown = document.querySelector('#vae-result');
  window.redrawn = new Promise((done, fail) => canvas.addEventListener('pointermove', () => {
    const begun = performance.now();
    const watcher = new MutationObserver(async () => {
      const pictures = [...shown.querySelectorAll('.plate img')];
      if (pictures.length < 3) return;
      watcher.disconnect(); await painted(pictures); done(performance.now() - begun);
    });
    watcher.observe(shown, {childList: true, subtree: true});
    setTimeout(() => fail(new Error('no reconstruction after a minute')), 60000);
  }, {once: true}));
}""".replace("PAINTED", PAINTED)


def strokes(page) -> list[float]:
    """Milliseconds from a move of the pen on the pad to the reconstruction on the screen."""
    page.get_by_role("button", name="Clear", exact=True).click()
    box = page.locator("#vae-pad canvas").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 50)
    page.mouse.down()
    times = []
    for step in range(STROKES + 2):
        page.wait_for_timeout(300)  # the answer to the move before has come, and the pad sends again
        page.evaluate(STROKE)
        page.mouse.move(box["x"] + 60 + 5 * step, box["y"] + 50 + (60 * step) % 180)
        times.append(page.evaluate("window.redrawn"))
    page.mouse.up()
    return times[2:]  # the first loads what is loaded once


def drags(page) -> list[float]:
    """Milliseconds from a move of the mouse on the map to the picture of that place on the screen."""
    page.get_by_role("button", name="The map: all digits").click()
    page.locator("#vae-map .here:not([hidden])").wait_for()
    page.locator("#vae-map .map:not([hidden])").wait_for()
    page.locator("#vae-map .square").scroll_into_view_if_needed()
    page.wait_for_timeout(3000)
    box = page.locator("#vae-map .square").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    times = []
    for step in range(DRAGS):
        page.wait_for_timeout(200)
        page.evaluate(DRAG.replace("gan-plane", "vae-map"))
        page.mouse.move(box["x"] + 20 + (step + 1) * (box["width"] - 40) / DRAGS, box["y"] + 20 + (step % 7) * 9)
        times.append(page.evaluate("window.dragged"))
    page.mouse.up()
    return times


def run() -> None:
    from playwright.sync_api import sync_playwright

    from tests.conftest import QUIET, find_browser

    with serving(["app.py", "--port", "7994"], 7994), sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=find_browser() or None, args=QUIET).new_page(locale="en-US")
        page.set_default_timeout(120_000)
        page.goto("http://127.0.0.1:7994/?tab=vae")
        page.locator("#vae-result .made").wait_for()
        report("a stroke on the pad, move to reconstruction", strokes(page))
        report("a drag on the map, move to pixels", drags(page))
