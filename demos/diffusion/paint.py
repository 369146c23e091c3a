"""A picture to paint on, for mouse, finger and keyboard: what is painted is to be drawn anew.

Its value is {"under": data: address of the picture, "mask": data: address of a PNG, painted where it is not transparent, or ""}.
"""

import base64
import binascii
import io

import gradio as gr
from PIL import Image

from demos.i18n import both
from genkit.core import Problem

SIDE = 256  # pixels of the mask
TEMPLATE = f"""<div class="painter"><div><img alt="" hidden><canvas width="{SIDE}" height="{SIDE}" tabindex="0" role="img"
 aria-label="Paint over what is to be drawn anew. Arrow keys move the brush, space puts it down or lifts it. 涂抹要重画的地方：方向键移动画笔，空格键落笔或提笔。"></canvas></div>
<button type="button">{both("Clear the paint", "清除涂抹")}</button></div>"""

PAINT = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d'), under = element.querySelector('img'), side = canvas.width;
let from = null, cursor = {x: side / 2, y: side / 2}, down = false, sent = '';
const clear = () => pen.clearRect(0, 0, side, side);
const send = () => { sent = canvas.toDataURL('image/png'); props.value = {...props.value, mask: sent}; trigger('input'); };
const at = (event) => {
  const box = canvas.getBoundingClientRect();
  return {x: (event.clientX - box.left) * side / box.width, y: (event.clientY - box.top) * side / box.height};
};
const stroke = (a, b) => {
  pen.strokeStyle = '#b04a20'; pen.lineWidth = 44; pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x + 0.01, b.y); pen.stroke();
};
const show = () => {
  const given = props.value || {};
  under.hidden = !given.under; if (given.under && under.src !== given.under) under.src = given.under;
  if (!given.mask && sent) { clear(); sent = ''; }
};
canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); from = at(event); stroke(from, from); event.preventDefault(); });
canvas.addEventListener('pointermove', (event) => { if (from) { const to = at(event); stroke(from, to); from = to; } });
['pointerup', 'pointercancel'].forEach((name) => canvas.addEventListener(name, () => { if (from) { from = null; send(); } }));
canvas.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: [-14, 0], ArrowRight: [14, 0], ArrowUp: [0, -14], ArrowDown: [0, 14]}[event.key];
  if (event.key === ' ') { down = !down; if (down) { stroke(cursor, cursor); send(); } event.preventDefault(); }
  if (!step) return;
  const inside = (value) => Math.min(side, Math.max(0, value)), to = {x: inside(cursor.x + step[0]), y: inside(cursor.y + step[1])};
  if (down) { stroke(cursor, to); send(); }
  cursor = to; event.preventDefault();
});
element.querySelector('button').addEventListener('click', () => { clear(); sent = ''; props.value = {...props.value, mask: ''}; trigger('input'); });
show();
watch('value', show);
"""


def painter(**options) -> gr.HTML:
    """The component."""
    return gr.HTML({"under": "", "mask": ""}, html_template=TEMPLATE, js_on_load=PAINT, **options)


def read(value, part: str) -> Image.Image | None:
    """The picture ("under") or the mask of a painter's value; None if there is none. Raises Problem for what is no small PNG."""
    address = value.get(part) if isinstance(value, dict) else None
    if not address:
        return None
    try:
        head, _, body = str(address).partition(",")
        if head != "data:image/png;base64" or len(body) > 3_000_000:
            raise ValueError(head[:40])
        picture = Image.open(io.BytesIO(base64.b64decode(body, validate=True)), formats=["PNG"])
        if max(picture.size) > 1024:
            raise ValueError(f"{picture.size}")
        picture.load()
        return picture
    except (ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise Problem("the picture could not be read; bring it again", "无法读取这张图片；请重新放入") from None
