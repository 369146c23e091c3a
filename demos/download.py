"""What stands under a model menu: nothing for a shipped model, size, licence and a Download button for a pretrained one."""

from collections.abc import Callable

import gradio as gr

import genkit
from demos.i18n import both, escape, t, told
from demos.pieces import note
from genkit import models
from genkit.hub import amount


def choices(family: str) -> list[str]:
    """The shipped models first, then the catalogue."""
    return [*genkit.family(family).VARIANTS, *models.catalogue(family)]


def describe(family: str, name: str) -> tuple[str, bool]:
    """What to say of a model before it is used, and whether there is something to download."""
    remote = models.catalogue(family).get(name)
    if remote is None:
        return "", False
    if models.elsewhere(family, name):
        return note(
            "It runs on another server, which the host of this page has chosen: what you write is sent there.",
            "它运行在本页主人选定的另一台服务器上：您写的内容会发送到那里。",
        ), False
    about = f"{escape(remote.repo)} · {amount(remote.size)} · {escape(remote.licence)}"
    need = (f" It needs {amount(remote.memory)} of memory.", f"需要 {amount(remote.memory)} 内存。") if remote.memory else ("", "")
    if models.is_here(family, name):
        return note(f"{about}. It is on this machine.{need[0]}", f"{about}。已在本机。{need[1]}"), False
    command = f"<code>python -m genkit.models fetch {escape(name)}</code>"
    return note(
        f"{about}. Not on this machine yet: press Download, or run {command}; nothing is fetched before.{need[0]}",
        f"{about}。本机还没有：请点“下载”，或运行 {command}；在此之前不会下载任何内容。{need[1]}",
    ), True


def panel(family: str, model: gr.Dropdown, fold: gr.Accordion | None = None, more: Callable[[str], str] = lambda name: "") -> None:
    """Build it for the menu `model`; more(name): what the family has to add (HTML).

    What it says is looked up anew when `fold`, around it, is opened: somebody else may have fetched the model.
    """

    def about_it(name) -> tuple[str, bool]:
        said, absent = describe(family, name)
        return said + more(name), absent

    said, absent = about_it(model.value)
    about = gr.HTML(said, visible=bool(said))
    with gr.Row(visible=absent) as buttons:
        fetch = gr.Button(t("Download", "下载"), min_width=90)
        stop = gr.Button(t("Stop the download", "停止下载"), visible=False, min_width=90)

    shown = [about, buttons, fetch, stop]

    def look(name):
        said, absent = about_it(name)
        return gr.HTML(said, visible=bool(said)), gr.Row(visible=absent), gr.Button(visible=absent), gr.Button(visible=False)

    @told
    def download(name):
        try:
            for progress in models.fetch(family, name):
                done, total = progress.done_bytes, max(progress.total_bytes, 1)
                bar = f'<progress max="{total}" value="{done}" aria-label="download"></progress>'
                said = f"{amount(done)} / {amount(total)} · {escape(progress.file)}"
                yield (
                    f'<div class="run"><p role="status">{both(said, said)}</p>{bar}</div>',
                    gr.Row(visible=True),
                    gr.Button(visible=False),
                    gr.Button(visible=True),
                )
        except GeneratorExit:
            return
        except Exception:
            yield look(name)
            raise
        yield look(name)

    private = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on([model.change, *([fold.expand] if fold else [])], look, model, shown, queue=False, **private)
    running = fetch.click(download, model, shown, concurrency_id="download", concurrency_limit=2, **private)
    stop.click(look, model, shown, cancels=[running], queue=False, **private)
