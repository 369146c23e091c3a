"""The look: a gallery wall. Paper and ink, one accent, serif titles; fonts that Gradio bundles, so nothing is fetched."""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

CSS = Path(__file__).with_name("page.css")
SANS = [gr.themes.LocalFont("IBM Plex Sans", weights=(400, 600)), "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", "sans-serif"]
MONO = [gr.themes.LocalFont("IBM Plex Mono", weights=(400, 600)), "monospace"]

EMBER = colors.Color(
    name="ember",
    c50="#fdf5f1",
    c100="#fae6dc",
    c200="#f4cbb8",
    c300="#eba585",
    c400="#e08255",
    c500="#c75b2c",
    c600="#b04a20",
    c700="#8f3b1b",
    c800="#743219",
    c900="#602c18",
    c950="#34140a",
)

theme = gr.themes.Base(
    primary_hue=EMBER,
    secondary_hue=colors.stone,
    neutral_hue=colors.stone,
    text_size=sizes.text_md,
    spacing_size=sizes.spacing_md,
    radius_size=sizes.radius_md,
    font=SANS,
    font_mono=MONO,
).set(
    body_background_fill="#f6f3ee",
    body_background_fill_dark="#161412",
    body_text_color="#2a2622",
    body_text_color_dark="#ece7e1",
    body_text_color_subdued="#635b53",
    body_text_color_subdued_dark="#b3aaa0",
    block_background_fill="#fffdfa",
    block_background_fill_dark="#211e1b",
    block_border_color="#e3dcd2",
    block_border_color_dark="#3a3530",
    block_border_width="1px",
    block_shadow="none",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    block_label_border_width="0px",
    block_label_text_color="#635b53",
    block_label_text_color_dark="#b3aaa0",
    block_title_text_weight="600",
    block_info_text_color="#635b53",
    block_info_text_color_dark="#b3aaa0",
    input_background_fill="#fffdfa",
    input_background_fill_dark="#191715",
    input_border_width="1px",
    input_border_color="#a69b8e",
    input_border_color_dark="#6b635a",
    input_border_color_focus="#b04a20",
    input_border_color_focus_dark="#e08255",
    input_placeholder_color="#6f675e",
    input_placeholder_color_dark="#a39a90",
    button_primary_background_fill="#b04a20",
    button_primary_background_fill_hover="#8f3b1b",
    button_primary_background_fill_dark="#e08255",
    button_primary_background_fill_hover_dark="#eba585",
    button_primary_text_color="#ffffff",
    button_primary_text_color_dark="#1d110b",
    button_secondary_background_fill="#ece5da",
    button_secondary_background_fill_hover="#e0d7c9",
    button_secondary_background_fill_dark="#322d28",
    button_secondary_background_fill_hover_dark="#403a33",
    button_secondary_text_color="#2a2622",
    button_secondary_text_color_dark="#ece7e1",
    link_text_color="#8f3b1b",
    link_text_color_dark="#eba585",
    slider_color="#b04a20",
    slider_color_dark="#e08255",
    checkbox_label_background_fill_selected="#fae6dc",
    checkbox_label_background_fill_selected_dark="#5a2b17",
    checkbox_label_text_color_selected="#2a2622",
    checkbox_label_text_color_selected_dark="#ece7e1",
)
