"""The "Train it" panel, the same in every tab: start a run on the server, follow it, stop it, find it again after a reload."""

import asyncio
import importlib
import secrets

import gradio as gr

import genkit
from demos.i18n import both, escape, t, told
from demos.pieces import chart, empty, note, wall
from genkit import runs
from genkit.core import Problem, number, pick

STEPS = 20_000  # the longest run that a visitor may ask for
STATES = {
    "waiting": ("waiting", "排队中"),
    "running": ("training", "训练中"),
    "done": ("finished", "已完成"),
    "stopped": ("stopped", "已停止"),
    "failed": ("failed", "失败"),
}
METRICS = {
    "loss": ("loss", "损失"),
    "loss_val": ("loss on held-out text", "验证损失"),
    "loss_d": ("discriminator's loss", "判别器损失"),
    "loss_g": ("generator's loss", "生成器损失"),
    "d_real": ("D's belief in real digits", "D 对真图的信任"),
    "d_fake": ("D's belief in made digits", "D 对假图的信任"),
    "recon": ("reconstruction, nats", "重建误差（纳特）"),
    "kl": ("KL divergence, nats", "KL 散度（纳特）"),
}

FORGET = "() => { const url = new URL(location.href); url.searchParams.delete('run'); url.searchParams.delete('key'); history.replaceState(null, '', url); }"


def begin(owner: str, family: str, variant: str, steps, seed, **options) -> str:
    """Start a run for `owner`; its id. The steps are clamped, the names are checked before a worker is taken; options go to train()."""
    module = genkit.family(family)
    pick(module.VARIANTS, variant, f"{family} variant", "变体")
    steps, seed = number(steps, 1, STEPS, "steps", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)
    every = importlib.import_module(f"demos.{family}").EVERY
    return runs.start(owner, module.train(variant, steps=steps, every=min(every, steps), seed=seed, **options), title=family)


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
    """What the model makes at this moment, from the same seed every time."""
    if not shot.preview:
        return empty("The first samples appear here.", "第一批样本会显示在这里。")
    if isinstance(shot.preview, str):
        return f'<div class="written">{escape(shot.preview)}</div>'
    return wall(shot.preview, [str(index + 1) for index in range(len(shot.preview))])


def links(family: str, run: str, owner: str) -> str:
    """Two addresses of a run: to watch it, and to take it along to another device."""
    watch = f"?tab={family}&run={run}"
    return (
        f"<details><summary>{both('Follow this run on another screen', '在另一块屏幕上查看这次训练')}</summary>"
        + note(f'Anyone may watch: <code><a href="{watch}">{watch}</a></code>', f'任何人都可以观看：<code><a href="{watch}">{watch}</a></code>')
        + note(f"Yours alone, with Stop: <code>{watch}&amp;key={owner}</code>", f"仅供您自己使用，可停止：<code>{watch}&amp;key={owner}</code>")
        + "</details>"
    )


async def follow(family: str, run: str, owner: str):
    """Show a run until it ends: yields (status, preview, chart, links, start button, stop button) when it has changed."""
    version = None
    while True:
        runs.touch(run, owner)
        shot = runs.snapshot(run)
        if shot.version != version:
            fresh, version, alive, own = version is None, shot.version, not shot.ended, bool(owner)
            yield (
                status(shot),
                preview(shot),
                chart(shot.metrics, METRICS),
                (links(family, run, owner) if own else "") if fresh else gr.skip(),  # a second time would fold them up under the visitor's finger
                gr.Button(interactive=not (alive and own)),
                gr.Button(interactive=alive and own),
            )
            if not alive:
                return
        await asyncio.sleep(0.4)


def remembered() -> gr.BrowserState:
    """The visitor's owner token and newest run of each family, kept in the browser. Outside all tabs: what is in a closed tab is not read at page load."""
    return gr.BrowserState({"owner": ""}, storage_key="genkit-runs", secret="a label, not a secret: the value is the visitor's own")


def panel(page: gr.Blocks, kept: gr.BrowserState, family: str, choices: dict[str, tuple], lesson: tuple[str, str], steps: int) -> None:
    """Build the panel. choices: what can be trained, name -> (label, arguments of train()); lesson: one sentence in both languages; steps: offered first."""

    def chosen(kept: dict, request: gr.Request) -> tuple[str, str]:
        """(run, owner) of the run that the address names (?tab=&run=&key=), else of the visitor's own; ("", "") if there is none."""
        kept, query = kept or {}, request.query_params
        if query.get("tab") == family and query.get("run"):
            return query["run"], query.get("key", "")
        return kept.get(family, ""), kept.get("owner", "")

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
            with gr.Row():
                start = gr.Button(t("Train from noise", "从零开始训练"), variant="primary", min_width=110)
                stop = gr.Button(t("Stop", "停止"), interactive=False, min_width=80)
        with gr.Column(scale=2, min_width=280):
            state, picture = gr.HTML(), gr.HTML(empty("The first samples appear here.", "第一批样本会显示在这里。"))
            curve, where = gr.HTML(), gr.HTML()
    shown = [state, picture, curve, where, start, stop]

    @told
    def start_run(choice, steps, seed, kept):
        owner = (kept or {}).get("owner") or secrets.token_urlsafe(12)
        return {**(kept or {}), "owner": owner, family: begin(owner, family, steps=steps, seed=seed, **choices[choice][1])}

    @told
    async def follow_mine(kept):
        async for view in follow(family, kept[family], kept["owner"]):
            yield view

    async def follow_again(kept, request: gr.Request):
        yield gr.skip()  # a handler that yields nothing would empty everything it shows
        run, owner = chosen(kept, request)
        if run:
            try:
                async for view in follow(family, run, owner):
                    yield view
            except Problem:  # a run of yesterday: the server keeps them for a while only
                pass

    @told
    def stop_run(kept, request: gr.Request):
        runs.stop(*chosen(kept, request))

    private = {"api_visibility": "private", "show_progress": "hidden"}
    started = start.click(start_run, [choice, amount, seed, kept], kept, **private)
    started.success(None, js=FORGET)
    started.success(follow_mine, kept, shown, concurrency_limit=None, **private)
    stop.click(stop_run, kept, None, queue=False, **private)
    page.load(follow_again, kept, shown, concurrency_limit=None, **private)


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
