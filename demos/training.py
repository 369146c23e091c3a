"""The "Train it" panel, the same in every tab: start a run on the server, follow it, let it rest, scrub back through it, find it again after a reload."""

import asyncio
import importlib
import json
import secrets
import time
from collections.abc import Callable, Sequence

import gradio as gr

import genkit
from demos.i18n import both, escape, t, told
from demos.pieces import chart, empty, note, wall
from genkit import labels, runs
from genkit.core import Control, Problem, number, pick

STEPS = 20_000  # the longest run that a visitor may ask for
TURN, BEAT = 0.4, 4.0  # seconds between two looks at a run; without news, a page hears from us this often: only then does the server see that it is gone
DRAWN = 32  # views of runs that are kept for the next who looks at them
STATES = {
    "waiting": ("waiting", "排队中"),
    "running": ("training", "训练中"),
    "paused": ("paused", "已暂停"),
    "done": ("finished", "已完成"),
    "stopped": ("stopped", "已停止"),
    "failed": ("failed", "失败"),
}
METRICS = {
    "loss": ("loss", "损失"),
    "loss_val": ("validation loss", "验证损失"),
    "loss_d": ("discriminator's loss", "判别器损失"),
    "loss_g": ("generator's loss", "生成器损失"),
    "d_real": ("D's belief in real digits", "D 对真图的信任"),
    "d_fake": ("D's belief in made digits", "D 对假图的信任"),
    "d_right": ("pairs that D tells apart", "D 分辨对的真假对"),
    "grad_g": ("size of G's gradient", "G 的梯度大小"),
    "recon": ("reconstruction, nats", "重建误差（纳特）"),
    "kl": ("KL divergence, nats", "KL 散度（纳特）"),
    "beta": ("β in force", "生效的 β"),
}
APART = {
    ("d_real", "d_fake", "d_right"): 1.0,
    ("grad_g",): 0.0,
    ("beta",): 0.0,
}  # what has a scale of its own, and so a chart: the least that its top stands for
LOWEST = "loss_val"  # the metric whose lowest point is marked

EMPTY = empty("The first samples appear here.", "第一批样本会显示在这里。")
FORGET = "() => { const url = new URL(location.href); url.searchParams.delete('run'); url.searchParams.delete('key'); history.replaceState(null, '', url); }"
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}

TIMELINE = f"""<label class="timeline" hidden><span>{both("Timeline", "时间轴")}</span>
<input type="range" min="0" step="1" aria-label="Timeline of the training, left is earlier. 训练的时间轴，左边较早。">
<output><span class="newest">{both("newest", "最新")}</span><span class="earlier" hidden>{both("step <b></b>", "第 <b></b> 步")}</span></output></label>"""

SCRUB = """
const label = element.querySelector('label'), slider = element.querySelector('input');
let run = '', steps = [], at = null;  // at: the step that is looked at; null follows the newest
const place = () => {
  const last = Math.max(steps.length - 1, 0);
  slider.max = last;
  slider.value = at === null ? last : Math.max(0, steps.findLastIndex((step) => step <= at));
  slider.setAttribute('aria-valuetext', String(at === null ? steps[last] : at));
  label.hidden = last < 1;
  element.querySelector('.newest').hidden = at !== null;
  element.querySelector('.earlier').hidden = at === null;
  element.querySelectorAll('b').forEach((b) => { b.textContent = at; });
};
const show = () => {
  const given = JSON.parse(props.value || '{}');
  if (given.run !== run) at = null;
  [run, steps] = [given.run, given.steps || []];
  place();
};
slider.addEventListener('input', () => {
  at = +slider.value >= steps.length - 1 ? null : steps[+slider.value];
  place();
  props.value = JSON.stringify({run, steps, at}); trigger('input');
});
show();
watch('value', show);
"""


def begin(
    owner: str, family: str, variant: str, steps, seed, *, control: Control | None = None, about: dict | None = None, train: Callable | None = None, **options
) -> str:
    """Start a run for `owner`; its id. The steps are clamped, the names are checked before a worker is taken; options go to train().

    control: for a train() whose settings may be changed while it runs; about: what snapshots say of it beside the options.
    train: in place of the family's own; what it carries along besides, no snapshot tells.
    """
    module = genkit.family(family)
    pick(module.VARIANTS, variant, f"{family} variant", "变体")
    steps, seed = number(steps, 1, STEPS, "steps", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)
    every = importlib.import_module(f"demos.{family}").EVERY
    asked = {"steps": steps, "every": min(every, steps), "seed": seed, **options}
    controlled = {"control": control} if control else {}
    return runs.start(
        owner, (train or module.train)(variant, **asked, **controlled), title=family, about={"variant": variant, **asked, **(about or {})}, control=control
    )


def seconds(value: float | None) -> str:
    """About how long, in both languages."""
    if value is None:
        return both("unknown", "未知")
    value = max(1, round(value))
    return both(f"{value} s", f"{value} 秒") if value < 100 else both(f"{round(value / 60)} min", f"{round(value / 60)} 分钟")


def status(shot) -> str:
    """Where a run is: state, place in the line or progress with the time left, and what went wrong if anything did."""
    said = both(*STATES[shot.state])
    if shot.state == "waiting":
        said += both(f": place {shot.place} in line, about ", f"：第 {shot.place} 位，大约还需 ") + seconds(shot.expected_wait)
    else:
        said += both(f": step {shot.step} of {shot.steps}", f"：第 {shot.step} 步，共 {shot.steps} 步") + both(", ", "，") + seconds(shot.elapsed)
        if shot.state == "running" and shot.remaining is not None:
            said += both(" so far, about ", "，大约还需 ") + seconds(shot.remaining) + both(" to go", "")
    trouble = note(escape(shot.problem.en), escape(shot.problem.zh), warn=True) if shot.problem else ""
    return (
        f'<div class="run"><p role="status">{said}</p><progress max="{max(shot.steps, 1)}" value="{shot.step}" aria-label="training"></progress>{trouble}</div>'
    )


def preview(shot) -> str:
    """What the model makes at this moment, or made in a frame of the timeline, from the same seed every time."""
    if not shot.preview:
        return EMPTY
    if isinstance(shot.preview, str):
        return f'<div class="written">{escape(shot.preview)}</div>'
    marked = [labels.mark(picture, model="genkit, in training", step=shot.step) for picture in shot.preview]
    return wall(marked, [str(index + 1) for index in range(len(marked))])


def charts(points: tuple[tuple[int, dict[str, float]], ...]) -> str:
    """The curves of a run: one chart, and one more for each kind of number that has a scale of its own."""
    common = tuple(key for key in dict.fromkeys(key for _, row in points for key in row) if not any(key in keys for keys in APART))
    drawn = [
        chart([(step, {key: row[key] for key in keys if key in row}) for step, row in points], METRICS, top, LOWEST)
        for keys, top in {common: 0.0, **APART}.items()
    ]
    return f'<div class="charts">{"".join(f"<div>{svg}</div>" for svg in drawn if svg)}</div>'


def drawn(shot) -> tuple[str, str]:
    """preview() and charts() of a snapshot, drawn once for everybody who follows the run."""
    key = shot.id, shot.version
    if key not in _drawn:
        while len(_drawn) >= DRAWN:
            _drawn.pop(next(iter(_drawn)))
        _drawn[key] = preview(shot), charts(shot.metrics)
    return _drawn[key]


def links(family: str, run: str, owner: str) -> str:
    """Two addresses of a run: to watch it, and to take it along to another device."""
    watch = f"?tab={family}&run={run}"
    return (
        f"<details><summary>{both('Follow this run on another screen', '在另一块屏幕上查看这次训练')}</summary>"
        + note(f'Anyone may watch: <code><a href="{watch}">{watch}</a></code>', f'任何人都可以观看：<code><a href="{watch}">{watch}</a></code>')
        + note(f"Yours alone, with Stop: <code>{watch}&amp;key={owner}</code>", f"仅供您自己使用，可停止：<code>{watch}&amp;key={owner}</code>")
        + "</details>"
    )


def asked_step(value) -> int | None:
    """The step that the timeline was moved to; None for the newest, and for anything that the timeline would not send."""
    try:
        return max(0, int(json.loads(value)["at"]))
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError):
        return None


def back(frame, detail: str = "") -> str:
    """A frame of the timeline: its pictures, its numbers in words, and what else there is to say of it (HTML)."""
    numbers = "".join(f"<li>{both(*METRICS.get(name, (name, name)))}: {value:.3g}</li>" for name, value in frame.metrics.items())
    said = note(
        f"This is step {frame.step}; the training itself is further on. Move the timeline to its right end to follow it again.",
        f"这是第 {frame.step} 步；训练本身已走得更远。把时间轴拖到最右端即可继续跟随。",
    )
    return f'<div class="frame">{said}{preview(frame)}<ul class="legend">{numbers}</ul>{detail}</div>'


def remembered() -> gr.BrowserState:
    """The visitor's owner token and newest run of each family, kept in the browser. Outside all tabs: what is in a closed tab is not read at page load."""
    return gr.BrowserState({"owner": ""}, storage_key="genkit-runs", secret="a label, not a secret: the value is the visitor's own")


class Panel:
    """The part of a panel that is the same for every family: buttons that operate a run, components that show it, ready() that connects them.

    In between a family adds buttons of its own with starts() and acts(), and components of its own to `extra`.
    more(snapshot, own, fresh): what those show, component -> value; own: whether the visitor operates this run; fresh: the page has not shown it before.
    detail(run, exam): HTML of an examination, for the timeline. resume: what the Resume button does. begins: what the button says that starts a run.
    name: the title of its runs, where a family has several panels.
    """

    def __init__(
        self,
        kept: gr.BrowserState,
        family: str,
        *,
        more: Callable | None = None,
        detail: Callable | None = None,
        resume: Callable = runs.resume,
        begins: tuple[str, str] = ("Train from noise", "从零开始训练"),
        name: str = "",
    ):
        self.kept, self.family, self.name, self.extra, self.begins = kept, family, name or family, [], begins
        self.more, self.detail, self.go_on = more or (lambda shot, own, fresh: {}), detail or (lambda run, exam: ""), resume

    def button(self, name: str, en: str, zh: str, **options) -> gr.Button:
        return gr.Button(t(en, zh), elem_id=f"{self.name}-{name}", min_width=70, **options)

    def buttons(self) -> None:
        self.start = self.button("start", *self.begins, variant="primary")
        with gr.Row():
            self.pause = self.button("pause", "Pause", "暂停", interactive=False)
            self.resume = self.button("resume", "Resume", "继续", interactive=False)
            self.stop = self.button("stop", "Stop", "停止", interactive=False)

    def status(self) -> None:
        self.state = gr.HTML()

    def look(self) -> gr.Column:
        """What is there to see. A component of the class "live" that is put into it gives way while an earlier frame is looked at."""
        with gr.Column(elem_classes="look") as column:
            self.timeline = gr.HTML("", html_template=TIMELINE, js_on_load=SCRUB, elem_id=f"{self.name}-timeline")
            self.past = gr.HTML()
            self.picture = gr.HTML(EMPTY, elem_classes="live")
        return column

    def numbers(self) -> None:
        self.curve, self.where = gr.HTML(), gr.HTML()

    @property
    def shown(self) -> list:
        """Every component that a look at the run may change. `extra`: those of more()."""
        return [
            self.state, self.past, self.picture, self.timeline, self.curve, self.where, self.start, self.pause, self.resume, self.stop, *self.extra,
        ]  # fmt: skip

    def view(self, shot, owner: str, fresh: bool) -> dict:
        """What to show of a run, component -> value."""
        own, alive, (picture, curve) = bool(owner), not shot.ended, drawn(shot)
        # a second time would fold the links up under the visitor's finger
        once = {self.where: links(self.family, shot.id, owner) if own else "", self.past: ""} if fresh else {}
        return {
            self.state: status(shot),
            self.picture: picture,
            self.timeline: json.dumps({"run": shot.id, "steps": shot.frames}),
            self.curve: curve,
            self.start: gr.Button(interactive=not (alive and own)),
            self.pause: gr.Button(interactive=alive and own and shot.state != "paused"),
            self.resume: gr.Button(interactive=own and shot.state == "paused"),
            self.stop: gr.Button(interactive=alive and own),
            **once,
            **self.more(shot, own, fresh),
        }

    def blank(self) -> dict:
        """What stands there before there is a run."""
        empty = dict.fromkeys((self.state, self.past, self.timeline, self.curve, self.where), "")
        idle = {button: gr.Button(interactive=False) for button in (self.pause, self.resume, self.stop)}
        return {**empty, self.picture: EMPTY, self.start: gr.Button(interactive=True), **idle}

    async def follow(self, run: str, owner: str, session: str):
        """Show a run until it ends: yields a view when it has changed, else a sign of life. In one page the newest call takes over from the one before."""
        place, token, version, said = (session, self.name), object(), None, 0.0
        fresh = _following.get(place, (None, ""))[1] != run
        _following[place] = token, run
        try:
            while _following.get(place, (None,))[0] is token:
                runs.touch(run, owner)
                shot, now = runs.snapshot(run), time.monotonic()
                if shot.version != version:
                    yield self.view(shot, owner, fresh)
                    version, said, fresh = shot.version, now, False
                    if shot.ended:
                        return
                elif now - said > BEAT:
                    yield {self.state: status(shot)}
                    said = now
                await asyncio.sleep(TURN)
            yield gr.skip()  # Gradio sends the last of a generator's views twice, the second time when it has ended
        finally:
            if _following.get(place, (None,))[0] is token:
                del _following[place]

    def leave(self, session: str) -> None:
        """Follow nothing any more in this page."""
        _following.pop((session, self.name), None)

    async def reattach(self, kept, request: gr.Request):
        """Follow the run in view, as long as the server keeps it."""
        yield gr.skip()  # a handler that yields nothing would empty everything it shows
        run, owner = self.chosen(kept, request)
        if run:
            try:
                async for view in self.follow(run, owner, request.session_hash):
                    yield view
            except Problem:  # a run of yesterday
                pass

    def chosen(self, kept: dict, request: gr.Request) -> tuple[str, str]:
        """(run, owner) of the run that the address names (?tab=&run=&key=), else of the visitor's own; ("", "") if there is none."""
        kept, query = kept or {}, request.query_params
        if query.get("tab") == self.family and query.get("run") and self.shows(query["run"]):
            return query["run"], query.get("key", "")
        return kept.get(self.name, ""), kept.get("owner", "")

    def shows(self, run: str) -> bool:
        """Whether a run that an address names is one of this panel's; one that is no longer kept is the first panel's matter."""
        try:
            return runs.snapshot(run).title == self.name
        except Problem:
            return self.name == self.family

    def starts(self, button, begin_run: Callable, inputs: list) -> None:
        """A button that begins a run of the visitor's own, begin_run(owner, *inputs) -> id, and follows it."""

        @told
        def start_run(kept, *values):
            owner = (kept or {}).get("owner") or secrets.token_urlsafe(12)
            return {**(kept or {}), "owner": owner, self.name: begin_run(owner, *values)}

        @told
        async def follow_mine(kept, request: gr.Request):
            async for view in self.follow(kept[self.name], kept["owner"], request.session_hash):
                yield view

        started = button.click(start_run, [self.kept, *inputs], self.kept, **PRIVATE)
        started.success(None, js=FORGET)
        started.success(follow_mine, self.kept, self.shown, concurrency_limit=None, **PRIVATE)

    def acts(self, trigger: Callable, act: Callable, inputs: Sequence = ()) -> None:
        """An event that operates the run in view: act(run, owner, *inputs). The page sees the change as everybody does, through follow()."""

        @told
        def operate(kept, request: gr.Request, *values):
            act(*self.chosen(kept, request), *values)

        trigger(operate, [self.kept, *inputs], None, queue=False, **PRIVATE)

    def resetting(self, usual: Callable[[], dict]) -> Callable:
        """The handler that ends the visitor's run and puts everything back to how the page opened; usual(): component -> value, beyond blank()."""

        @told
        def reset(kept, request: gr.Request):
            run, owner = self.chosen(kept, request)
            self.leave(request.session_hash)
            if run and runs.mine(owner, self.name) == run:
                runs.stop(run, owner)
            return {**self.blank(), **usual(), self.kept: {**(kept or {}), self.name: ""}}

        return reset

    def resets(self, button, usual: Callable[[], dict], settings: list) -> None:
        """A button that does resetting(); settings: what usual() gives values to, beside what is shown of a run."""
        reset = button.click(self.resetting(usual), self.kept, [self.kept, *settings, *self.shown], queue=False, **PRIVATE)
        reset.success(None, js=FORGET)

    def ready(self, page: gr.Blocks) -> None:
        """Connect the buttons and the timeline, and show the run of a page that is opened."""

        @told
        def look(value, kept, request: gr.Request):
            step, (run, _) = asked_step(value), self.chosen(kept, request)
            if step is None:
                return ""
            frame = runs.frame(run, step)
            return back(frame, self.detail(run, frame.exam))

        self.acts(self.pause.click, runs.pause)
        self.acts(self.resume.click, self.go_on)
        self.acts(self.stop.click, runs.stop)
        self.timeline.input(look, [self.timeline, self.kept], self.past, trigger_mode="always_last", concurrency_limit=8, **PRIVATE)
        page.load(self.reattach, self.kept, self.shown, concurrency_limit=None, **PRIVATE)


_drawn: dict[tuple[str, int], tuple[str, str]] = {}  # (run, version) -> its newest views
_following: dict[tuple[str, str], tuple[object, str]] = {}  # (page, family) -> who follows which run there


def panel(page: gr.Blocks, kept: gr.BrowserState, family: str, choices: dict[str, tuple], lesson: tuple[str, str], steps: int) -> None:
    """Build the panel. choices: what can be trained, name -> (label, arguments of train()); lesson: one sentence in both languages; steps: offered first."""
    desk = Panel(kept, family)
    gr.HTML(note(*lesson))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            choice = gr.Radio(
                [(label, name) for name, (label, _) in choices.items()],
                value=next(iter(choices)),
                label=t("What to train", "训练什么"),
                visible=len(choices) > 1,
            )
            amount = gr.Slider(10, 5000, steps, step=10, label=t("Steps", "步数"))
            seed = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
            desk.buttons()
        with gr.Column(scale=2, min_width=280):
            desk.status()
            desk.look()
            desk.numbers()

    def begin_run(owner, choice, steps, seed):
        _, options = pick(choices, choice, "choice", "选项")
        return begin(owner, family, steps=steps, seed=seed, **options)

    desk.starts(desk.start, begin_run, [choice, amount, seed])
    desk.ready(page)


def train(family: str, variant: str, steps: int = 200, seed: int = 0) -> dict:
    """Train a small model on the server and stream its progress: {"step", "steps", "metrics", "preview"}; leaving stops it."""
    owner = secrets.token_urlsafe(12)
    run = begin(owner, family, variant, steps, seed)
    try:
        for shot in runs.follow(run, owner=owner):
            if shot.problem:
                raise shot.problem
            yield {
                "state": shot.state,
                "step": shot.step,
                "steps": shot.steps,
                "metrics": shot.metrics[-1][1] if shot.metrics else {},
                "preview": preview(shot),
            }
    finally:
        runs.stop(run, owner)
