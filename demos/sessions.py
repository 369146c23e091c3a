"""The arrival of a visitor, made cheap: a class that opens one link arrives all at once.

Gradio describes every component anew for each session - signatures, schemas - and answers nobody else meanwhile. All of them start from the same page.
"""

import gradio as gr
from gradio.blocks import BlocksConfig

_describe = BlocksConfig.config_for_block


def describe_once(page: gr.Blocks) -> None:
    """Describe the components of a finished page now, and hand each new session a copy; whatever is not as it was built is described as ever."""
    described = {key: _describe(key, [], block) for key, block in page.blocks.items()}

    def config_for_block(_id, rendered_ids, block, renderable=None):
        if renderable is not None or page.blocks.get(_id) is not block or _id not in described:
            return _describe(_id, rendered_ids, block, renderable)
        return {**described[_id], "props": dict(described[_id]["props"])}  # a session writes its values into it

    BlocksConfig.config_for_block = staticmethod(config_for_block)
