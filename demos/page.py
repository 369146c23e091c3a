"""The page: header, one tab a family, and the first result of each tab, made in the background while the page is already up."""

import asyncio
import gc
import importlib
import logging
import threading

import gradio as gr

from demos import TABS, light, training
from demos.i18n import SWITCH, both, escape, t, told
from demos.pieces import DOWNLOADS, note
from genkit.core import Problem

NAME = "Generative Model Gallery · 生成模型画廊"
log = logging.getLogger(__name__)
_first: dict[str, object] = {}  # tab -> what its first() made


def figure(parts: tuple[tuple[str, str], ...]) -> str:
    """The small picture of how a family works: boxes with arrows between them."""
    return f'<ol class="how">{"".join(f"<li>{both(*part)}</li>" for part in parts)}</ol>'


def warm_up() -> None:
    """Load what every tab needs and make its first result; a tab that cannot says why, the others go on."""
    for name in TABS:
        module = importlib.import_module(f"demos.{name}")
        try:
            _first[name] = module.first()
        except Exception as error:
            problem = error.__cause__  # what told() turned into a message for a visitor
            if not isinstance(problem, Problem):
                log.exception("the first result of %s failed", name)
                problem = Problem("this tab could not start: {error}", "此页未能启动：{error}", error=type(error).__name__)
            _first[name] = note(escape(problem.en), escape(problem.zh), warn=True)
    gc.collect()
    gc.freeze()  # the libraries stay for good; a later collection, when a model goes, need not look at them


def opening(name: str, shown: list):
    """The handler that brings the first result of a tab to a page that has just been opened."""

    async def wait():
        while name not in _first:
            await asyncio.sleep(0.2)
        made = _first[name]
        if len(shown) == 1 or isinstance(made, tuple):
            return made
        return *(gr.skip() for _ in shown[1:]), made  # a sentence about what went wrong takes the place of the result

    return wait


def build() -> gr.Blocks:
    """The whole page, from demos.TABS. Nothing heavy is imported; warm_up() does that later."""
    with gr.Blocks(title=NAME, fill_width=True, delete_cache=(3600, 3600)) as page:
        kept = training.remembered()
        with gr.Row(elem_id="top"):
            gr.HTML(
                both("<h1>Generative Model Gallery</h1>", "<h1>生成模型画廊</h1>", "div")
                + both(
                    "<p>Watch machines learn to create: four families of models, small enough to train here, open for you to try.</p>",
                    "<p>看机器怎样学会创作：四类生成模型，小到可以在这里训练，人人都能动手试。</p>",
                    "div",
                )
            )
            gr.Button("中文 / EN", elem_id="language", size="sm", scale=0).click(None, js=SWITCH)
        with gr.Tabs():
            for name in TABS:
                module = importlib.import_module(f"demos.{name}")
                with gr.Tab(t(*module.TITLE), id=name):
                    gr.HTML(f'<div class="opening">{both(*module.SENTENCE, "p")}{figure(module.HOW)}</div>')
                    shown = module.build(page, kept)
                    shown = shown if isinstance(shown, list) else [shown]
                    page.load(opening(name, shown), None, shown, concurrency_limit=None, show_progress="hidden", api_visibility="private")
        page.load(None, js=DOWNLOADS, api_visibility="private")
        gr.api(told(training.train), api_name="train", concurrency_limit=8)
    light.unwatched(page)
    return page


def warm_up_in_background() -> None:
    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
