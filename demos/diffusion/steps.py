"""Every step of the last drawing: scrub back through it, keep it as a film, and branch off at any step with other words, another seed or guidance."""

import asyncio

import gradio as gr

from demos import film
from demos.answer import answer, asking
from demos.diffusion import drawn
from demos.diffusion.make import MOST, PROMPT, checked, drawing, lost, text
from demos.endpoints import file
from demos.i18n import both, escape, t, told
from demos.pieces import empty, heading, made_by, note, plate, plates, refused
from genkit import diffusion, labels, models
from genkit.core import Problem, number, pick
from genkit.diffusion import words

TITLE = ("Every step: scrub, film, branch", "每一步：回放、影片、分支")
LESSON = (
    "A drawing is a walk from pure noise to a picture. At each step the network looks at what there is (left), and says what noise it sees (right); "
    "take that away, and what remains is its belief about the whole picture (middle). It then walks only a little way towards it, and looks again.",
    "画一幅图，就是从纯噪声走到图片。每一步，网络看着眼前的样子（左），说出它看到的噪声（右）；减去噪声，剩下的就是它此刻对整张图的猜想（中）。然后它只朝那里走一小步，再看一次。",
)
KEPT = {"x0": ("what it believes, step by step", "每一步的猜想"), "x_t": ("what there is, step by step", "每一步的样子")}
NOTHING = ("Draw a picture above first.", "请先在上面画一张图。")


# --- endpoint


def diffusion_steps(
    prompt: str,
    negative_prompt: str = "",
    num_inference_steps: int = 20,
    guidance_scale: float = 4.0,
    seed: int = 0,
    model: str = "mini-sd",
    scheduler: str = "",
    branch_at: int | None = None,
    branch_prompt: str = "",
    branch_guidance: float | None = None,
    branch_seed: int | None = None,
) -> dict:
    """Draw one picture and keep every step of it.

    picture: the PNG; steps: for each step its t, the amounts a and s of picture and noise in it, and as PNG files x_t (what there was), x0 and noise (as
    predicted); cut: what the text encoder could not read of the prompt. With branch_at (a step, from 1) it is left there: the steps before are gone again as
    they were, and the prompt, guidance and seed of the branch (those of the beginning where they are not given) count from that step on.
    """
    settings, kept = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, scheduler), diffusion.Trace()
    *_, (made, _) = drawing(model, settings, kept)
    if branch_at is not None:
        at = number(branch_at, 1, len(kept.moments), "branch_at", whole=True) - 1
        settings = branched(kept, branch_prompt, branch_guidance, branch_seed)
        origin, kept = (kept, at), diffusion.Trace()
        *_, (made, _) = drawing(model, settings, kept, origin)
    pipe, shown = models.use("diffusion", model), []
    for k, moment in enumerate(kept.moments):
        with models.guarded():
            parts = dict(zip(("x_t", "x0", "noise"), diffusion.look(pipe, kept, k), strict=True))
        files = {name: file(labels.mark(part, model=f"diffusion/{model}", prompt=settings["prompt"], shows=name, step=k + 1)) for name, part in parts.items()}
        shown.append({"t": moment.t, "a": moment.a, "s": moment.s, **files})
    return {"picture": file(made[0]), "steps": shown, "cut": words.fit(pipe, settings["prompt"])[1]}


def branched(origin, prompt, guidance, seed) -> dict:
    """The settings of a branch: those of its origin, and what the visitor has changed."""
    settings = dict(origin.settings)
    if text(prompt).strip():
        settings["prompt"] = prompt
    if guidance not in (None, ""):
        settings["guidance_scale"] = number(guidance, 0, 15, "guidance_scale")
    if seed not in (None, ""):
        settings["seed"] = number(seed, 0, 2**31 - 1, "seed", whole=True)
    return settings


# --- what the page shows


async def look(run, at, index) -> str:
    """One step of a drawing: what there is, what the network believes and which noise it sees."""
    if not run:
        return empty(*NOTHING)
    try:
        at, index = number(at, 1, 100, "step", whole=True) - 1, number(index, 1, MOST, "picture", whole=True) - 1
        return await asyncio.to_thread(seen, run, at, index)
    except Problem as problem:
        return refused(problem)


def seen(run, at: int, index: int) -> str:
    model, trace = drawn.get(run)
    _, x_t, x0, noise = drawn.looked(run, at, index)
    at = min(at, len(trace.moments) - 1)
    moment, last = trace.moments[at], len(trace.moments)
    x_t, x0, noise = (labels.mark(part, model=f"diffusion/{model}", step=at + 1) for part in (x_t, x0, noise))
    share = 100 * moment.a**2 / (moment.a**2 + moment.s**2)
    shown = (
        plate(x_t, both("What there is", "眼前的样子"), both("x<sub>t</sub>, decoded", "x<sub>t</sub>，解码后"), smooth=True),
        plate(x0, both("What it believes", "它的猜想"), both("predicted x<sub>0</sub>", "预测的 x<sub>0</sub>"), smooth=True),
        plate(noise, both("The noise it sees", "它看到的噪声"), both("in the latents, as colours", "潜变量中的噪声，以颜色表示")),
    )
    words = note(
        f"Step {at + 1} of {last}, t = {moment.t:.0f}: of what there is, {share:.0f} % is picture and {100 - share:.0f} % noise (by variance).",
        f"第 {at + 1} 步，共 {last} 步，t = {moment.t:.0f}：眼前的样子里，{share:.0f}% 是图片，{100 - share:.0f}% 是噪声（按方差计）。",
    )
    return f'<div role="status">{words}</div>{plates(*shown)}{rough(model, trace)}'


def rough(model: str, trace) -> str:
    """That latents too large to decode while one waits are shown as they are."""
    if trace.moments and diffusion.quick(models.use("diffusion", model), trace.moments[0].x_t):
        return ""
    return note(
        "Decoding a picture of this size takes seconds here, so the steps show about what it would give: a colour for each place of the latents, by a linear map "
        "that is fitted to this autoencoder.",
        "在这里解码这么大的图片需要好几秒，所以各步只显示大致的样子：用一个针对该自编码器拟合的线性映射，给潜变量的每个位置一种颜色。",
    )


def settle(run, at, index):
    """The sliders for a drawing that has just been made: where they stood, as far as it has so many steps and pictures."""
    trace = drawn.there(run)
    last, n = (max(len(trace.moments), 1), max(len(trace.pictures), 1)) if trace else (20, 1)  # a model elsewhere sends no steps
    return gr.Slider(maximum=max(last, 2), value=min(at, last)), gr.Slider(maximum=max(n, 2), value=min(index, n), visible=n > 1)


@told
def keep(which, run, index):
    """The film to look at, and its three files."""
    pick(KEPT, which, "film", "影片")
    if not run:
        raise Problem("there is no drawing yet; press Draw first", "还没有画过图；请先点“画图”")
    model, trace = drawn.get(run)
    with models.guarded():
        frames = diffusion.film(models.use("diffusion", model), trace, number(index, 1, MOST, "picture", whole=True) - 1, what=which)
    marked = [labels.mark(frame, model=f"diffusion/{model}", prompt=trace.settings["prompt"], step=step) for step, frame in enumerate(frames, start=1)]
    scale = max(1, 320 // marked[0].width)
    shown, files = film.cut(f"steps-{which}", marked, [*marked, *[marked[-1]] * 8], fps=8, columns=7, scale=scale)
    return shown + made_by(model, prompt=trace.settings["prompt"], seed=trace.settings["seed"]), files


@told
def branch(run, at, index, prompt, guidance, seed):
    """(HTML, key): the drawing and its branch beside each other, as it comes."""
    if not run:
        raise Problem("there is no drawing yet; press Draw first", "还没有画过图；请先点“画图”")
    model, origin = drawn.get(run)
    at = number(at, 1, max(len(origin.moments), 1), "step", whole=True) - 1
    index = min(number(index, 1, MOST, "picture", whole=True), max(len(origin.pictures), 1)) - 1
    settings, kept = branched(origin, prompt, guidance, seed), diffusion.Trace()
    old = plate(
        labels.mark(origin.pictures[index], model=f"diffusion/{model}"), both("As it was", "原来的"), escape(origin.settings["prompt"][:80]), smooth=True
    )
    for pictures, step in drawing(model, settings, kept, (origin, at)):
        done = step.step == step.steps
        said = both(f"Left at step {at + 1}", f"从第 {at + 1} 步分开")
        new = plate(pictures[min(index, len(pictures) - 1)], said, escape(settings["prompt"][:80]) if done else f"{step.step}/{step.steps}", smooth=True)
        yield f'<div class="pair">{old}{new}</div>', gr.skip()
    about = made_by(model, prompt=settings["prompt"], seed=settings["seed"], guidance=settings["guidance_scale"], step=at + 1)
    yield f'<div class="pair">{old}{new}</div>{lost(model, settings["prompt"])}{about}', drawn.put(model, kept)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    run = parts["run"]
    gr.HTML(note(*LESSON))
    with gr.Row():
        at = gr.Slider(1, 20, 8, step=1, label=t("Step", "第几步"), min_width=240, scale=3, elem_id="diffusion-at")
        index = gr.Slider(1, 2, 1, step=1, label=t("Which picture", "第几张图"), visible=False, min_width=160, scale=1)
    looked = answer("diffusion-look", look, empty(*NOTHING), elem_id="diffusion-look")
    heading(
        "Branch off here", "从这里分出去",
        "Go back to the step above and walk on from there with other words. Early, everything can still change; late, only details. "
        "With another seed what it believes at that step stays, and other noise is laid over it.",
        "回到上面选的那一步，换一句话继续走。早分开，什么都还能变；晚分开，只剩细节。换种子时，保留它在那一步的猜想，再盖上另一份噪声。",
    )  # fmt: skip
    with gr.Row():
        prompt = gr.Textbox("", label=t("Go on with these words", "换成这句话"), max_length=PROMPT, min_width=260, scale=3,
                            placeholder=t("empty: the same words", "留空：原来的话"))  # fmt: skip
        same = t("the same", "不变")  # a gr.Number cannot be empty
        guidance = gr.Textbox("", label=t("Guidance", "引导强度"), placeholder=same, max_length=8, min_width=130, scale=1)
        seed = gr.Textbox("", label=t("Seed", "随机种子"), placeholder=same, max_length=12, min_width=130, scale=1)
    with gr.Row():
        go = gr.Button(t("Branch here", "从这一步分支"), variant="primary", scale=0, min_width=200)
        follow = gr.Button(t("Scrub through the branch", "回放这条分支"), scale=0, min_width=200, visible=False)
    fork = gr.HTML(elem_id="diffusion-branch")
    forked = gr.Textbox("", visible=False)
    which, shoot, _ = film.panel(KEPT, keep, [run, index], "diffusion-film")

    asks = asking(looked, run=run, at=at, index=index)
    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 16}
    for event in (parts["drawing"].success, parts["steps"].expand):
        event(settle, [run, at, index], [at, index], **light).then(**asks)
    gr.on([at.input, index.input, at.change], **asks)
    gone = go.click(branch, [run, at, index, prompt, guidance, seed], [fork, forked], concurrency_id="heavy", concurrency_limit=2, api_visibility="private")
    gone.success(lambda: gr.Button(visible=True), None, follow, queue=False, api_visibility="private")
    follow.click(lambda key, now: key or now, [forked, run], run, queue=False, api_visibility="private").then(
        settle, [run, at, index], [at, index], **light
    ).then(**asks)
    gr.api(told(diffusion_steps), api_name="diffusion_steps", concurrency_id="heavy", concurrency_limit=2)
    parts |= {"at": at, "index": index, "look": looked, "branch": go, "branch_prompt": prompt, "fork": fork, "film": shoot}
