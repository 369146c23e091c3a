"""A square to walk in, for mouse, finger and keyboard, beside a large picture of the place where one stands.

Its value is a question: a dict with x and y in [-1, 1] and whatever else look() needs to know. The next question leaves when the last one is
answered, and is always about the newest place: drags never pile up on the server.
"""

import gradio as gr

from demos.i18n import both
from demos.pieces import UNFOLDED

TEMPLATE = f"""<div class="plane">
<div><div class="square" tabindex="0" role="slider" aria-valuemin="-1" aria-valuemax="1" aria-valuenow="0"
 aria-label="Place in the plane. Arrow keys walk, Home goes to the middle. 平面中的位置：方向键移动，Home 键回到中心。"><img class="map" alt="" hidden><i></i></div>
<small>{both("Drag the dot, or use the arrow keys", "拖动圆点，或用方向键")}</small></div>
<figure><img class="here" alt="" hidden><figcaption></figcaption></figure>
</div>"""

WALK = """
const square = element.querySelector('.square'), map = element.querySelector('.map'), dot = element.querySelector('i');
const picture = element.querySelector('.here'), words = element.querySelector('figcaption');
let at = {...props.value}, answered = '', mapped = '', busy = false, seen = false, dragging = false;
const ground = () => JSON.stringify({...at, x: 0, y: 0});
const show = (image, address) => { image.hidden = !address; if (address) image.src = address; };
const stand = () => {
  dot.style.left = 50 * (1 + at.x) + '%'; dot.style.top = 50 * (1 - at.y) + '%';
  square.setAttribute('aria-valuenow', at.x.toFixed(2));
  square.setAttribute('aria-valuetext', `x ${at.x.toFixed(2)}, y ${at.y.toFixed(2)}`);
};
const ask = async () => {
  if (busy || !seen) return;
  busy = true;
  while (answered !== JSON.stringify(at)) {
    const asked = JSON.stringify(at), below = ground();
    try {
      const answer = await server.look({...at, map: below !== mapped});
      if (below !== mapped) { show(map, answer.map); mapped = below; }
      show(picture, answer.picture); picture.alt = answer.alt || ''; words.innerHTML = answer.said;
    } catch (error) { words.textContent = '⚠ ' + location.host; mapped = ''; }
    answered = asked;
  }
  busy = false;
};
const go = (x, y) => {
  const inside = (value) => Math.round(100 * Math.min(1, Math.max(-1, value))) / 100;
  at = {...at, x: inside(x), y: inside(y)}; stand(); ask();
};
const arrive = () => { props.value = {...at}; trigger('input'); };
const follow = (event) => {
  const box = square.getBoundingClientRect();
  go(2 * (event.clientX - box.left) / box.width - 1, 1 - 2 * (event.clientY - box.top) / box.height);
};
square.addEventListener('pointerdown', (event) => { square.setPointerCapture(event.pointerId); dragging = true; follow(event); square.focus(); event.preventDefault(); });
square.addEventListener('pointermove', (event) => { if (dragging) follow(event); });
['pointerup', 'pointercancel'].forEach((name) => square.addEventListener(name, () => { if (dragging) { dragging = false; arrive(); } }));
square.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1], Home: [-at.x, -at.y]}[event.key];
  if (step) { go(at.x + step[0], at.y + step[1]); arrive(); event.preventDefault(); }
});
watch('value', () => { if (!dragging) { at = {...at, ...props.value}; stand(); ask(); } });
stand();
unfolded(square, () => { seen = true; ask(); trigger('ready'); });
"""


def plane(look, start: dict, **options) -> gr.HTML:
    """The component. look(question) is called without a queue: it answers {"picture", "alt", "said"}, and "map" when the question asks for it.

    The pictures are data: addresses, `said` is HTML. Events: ready (its section was unfolded), input (the visitor has arrived somewhere).
    """

    def answer(question):
        return look(question if isinstance(question, dict) else {})

    answer.__name__ = "look"
    return gr.HTML({"x": 0, "y": 0, **start}, html_template=TEMPLATE, js_on_load=UNFOLDED + WALK, server_functions=[answer], **options)
