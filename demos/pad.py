"""The drawing pad: a light canvas for mouse, finger and keyboard. Its value is a PNG data: address of what is on it."""

import base64
import binascii
import io
import json

import gradio as gr
from PIL import Image

from demos.i18n import both
from genkit.core import Problem

SIZE = 280  # pixels; a stroke of 22 shrinks to the two pixels of an MNIST stroke
TEMPLATE = f"""<div class="pad"><canvas width="{SIZE}" height="{SIZE}" tabindex="0" role="img"
 aria-label="Drawing pad. Arrow keys move the pen, space puts it down or lifts it. 画板：方向键移动画笔，空格键落笔或提笔。"></canvas>
<button type="button">{both("Clear", "清除")}</button></div>"""

DRAW = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d', {willReadFrequently: true});
let from = null, cursor = {x: 140, y: 140}, down = false, sent = 0, shown = props.value;
const blank = () => { pen.fillStyle = '#fff'; pen.fillRect(0, 0, canvas.width, canvas.height); };
const send = (now) => {
  if (!now && performance.now() - sent < 180) return;
  sent = performance.now(); shown = canvas.toDataURL('image/png'); props.value = shown; trigger('input');
};
const at = (event) => {
  const box = canvas.getBoundingClientRect();
  return {x: (event.clientX - box.left) * canvas.width / box.width, y: (event.clientY - box.top) * canvas.height / box.height};
};
const stroke = (a, b) => {
  pen.strokeStyle = '#000'; pen.lineWidth = 22; pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x + 0.01, b.y); pen.stroke();
};
const show = (address) => {
  if (!address || address === shown) return;
  shown = address;
  const picture = new Image();
  picture.onload = () => { blank(); pen.imageSmoothingEnabled = true; pen.drawImage(picture, 0, 0, canvas.width, canvas.height); };
  picture.src = address;
};
blank();
if (props.value) { shown = null; show(props.value); }
canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); from = at(event); stroke(from, from); send(false); event.preventDefault(); });
canvas.addEventListener('pointermove', (event) => { if (!from) return; const to = at(event); stroke(from, to); from = to; send(false); });
['pointerup', 'pointercancel'].forEach((name) => canvas.addEventListener(name, () => { if (from) { from = null; send(true); } }));
canvas.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8]}[event.key];
  if (event.key === ' ') { down = !down; if (down) { stroke(cursor, cursor); send(true); } event.preventDefault(); }
  if (!step) return;
  const to = {x: Math.min(270, Math.max(10, cursor.x + step[0])), y: Math.min(270, Math.max(10, cursor.y + step[1]))};
  if (down) { stroke(cursor, to); send(true); }
  cursor = to; event.preventDefault();
});
element.querySelector('button').addEventListener('click', () => { blank(); shown = ''; props.value = ''; trigger('clear'); });
watch('value', () => show(props.value));
"""


def pad(pen: int = 22, **options) -> gr.HTML:
    """The component; pen: the width of a stroke. Events: input (something was drawn, at most about five times a second), clear."""
    return gr.HTML("", html_template=TEMPLATE, js_on_load=DRAW.replace("lineWidth = 22", f"lineWidth = {pen}"), **options)


def picture(value) -> Image.Image:
    """The picture on the pad, RGB. Raises Problem if there is none or if what a client sent is not a small PNG."""
    if not value:
        raise Problem("nothing is drawn yet; draw a digit or pick one", "画板是空的；请画一个数字，或选一个")
    try:
        head, _, body = str(value).partition(",")
        if head != "data:image/png;base64" or len(body) > 1_000_000:
            raise ValueError(json.dumps(head[:40]))
        drawn = Image.open(io.BytesIO(base64.b64decode(body, validate=True)), formats=["PNG"])
        if max(drawn.size) > 2 * SIZE:
            raise ValueError(f"{drawn.size}")
        return drawn.convert("RGB")
    except (ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise Problem("the drawing could not be read; clear the pad and draw again", "无法读取这幅画；请清除后重画") from None


def address(shown: Image.Image) -> str:
    """The pad's value that shows a picture: scaled to fit, centred on white."""
    sheet = Image.new("RGB", (SIZE, SIZE), "white")
    scale = SIZE / max(shown.size)
    fitted = shown.convert("RGB").resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))), Image.Resampling.BICUBIC)
    sheet.paste(fitted, ((SIZE - fitted.width) // 2, (SIZE - fitted.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
