"""What keeps a page of a thousand components light in the browser: three things that Gradio 6.31 would do over and over, and need not.

unwatched() runs when the page is built; SCRIPT stands before Gradio's own configuration in the page, and hands it on without what no page needs.
"""

import json

import gradio as gr

from demos import TABS


def unwatched(page: gr.Blocks) -> None:
    """No state of waiting for what shows none.

    The browser keeps one for every output that ever waited, and at each turn of any event looks through the whole page for each of them, for good.
    """
    for event in page.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = []


# - Every component is compared with every event, twice, before anything is shown, and Svelte wraps each number of each event in an object for that:
#   what is no plain array it leaves alone.
# - For each trigger of an event the page is searched; those of a .then() or .success() name no component and search it to the end.
# - What gr.api() makes for its endpoints has a place in the page, though nothing to show.
# ?tab=vae is open from the start, not after an answer of the server.
SCRIPT = """<script>(() => {
  class Fixed extends Array {}
  const light = (config) => {
    const unseen = new Set(config.components.filter(({type}) => type === 'api').map(({id}) => id));
    config.components = config.components.filter(({id}) => !unseen.has(id));
    const prune = (node) => { node.children = (node.children ?? []).filter(({id}) => !unseen.has(id)); node.children.forEach(prune); };
    for (const {layout} of [config, ...Object.values(config.page)]) prune(layout);
    for (const event of config.dependencies) event.targets = event.targets.filter(([id]) => id !== null);
    config.dependencies = Fixed.from(config.dependencies);
    const asked = new URLSearchParams(location.search).get('tab');
    if (__TABS__.includes(asked)) config.components.find(({type}) => type === 'tabs').props.selected = asked;
  };
  let config;
  Object.defineProperty(window, 'gradio_config', {
    configurable: true, get: () => config, set: (given) => { config = given; try { if (given?.dependencies?.length) light(given); } catch (error) { console.warn(error); } },
  });
})();</script>""".replace("__TABS__", json.dumps(TABS))
