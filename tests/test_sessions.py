"""Sessions that share what is the same for all of them."""

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState

from demos import sessions


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(BlocksConfig, "config_for_block", staticmethod(sessions._describe))  # put back afterwards
    with gr.Blocks() as blocks:
        with gr.Row():
            gr.Textbox("first", label="Name")
            gr.Slider(0, 5, 3, step=1)
        gr.HTML("<b>x</b>")
        gr.State(7)
    return blocks


def test_a_session_is_described_as_gradio_describes_it(page):
    plain = SessionState(page).config_values
    sessions.describe_once(page)
    assert SessionState(page).config_values == plain and len(plain) == len(page.blocks)


def test_what_one_session_writes_no_other_reads(page):
    sessions.describe_once(page)
    one, other = SessionState(page), SessionState(page)
    name = next(key for key, block in page.blocks.items() if isinstance(block, gr.Textbox))
    one._update_value_in_config(name, "mine")
    assert one.config_values[name]["props"]["value"] == "mine"
    assert other.config_values[name]["props"]["value"] == SessionState(page).config_values[name]["props"]["value"] == "first"


def test_a_component_that_took_the_place_of_another_is_described_anew(page):
    sessions.describe_once(page)
    name = next(key for key, block in page.blocks.items() if isinstance(block, gr.Textbox))
    described = page.default_config.config_for_block(name, [], gr.Textbox("second", label="Other", render=False))
    assert described["props"]["label"] == "Other" and described["props"]["value"] == "second"


def test_the_second_session_asks_no_component_about_itself(page, monkeypatch):
    sessions.describe_once(page)

    def asked(self, *args):
        raise AssertionError("described again")

    monkeypatch.setattr(gr.Textbox, "get_config", asked)
    assert len(SessionState(page).config_values) == len(page.blocks)
