"""Write a prompt, and see the picture come out of the noise. The part of the tab that opens first."""

import asyncio
import time

import gradio as gr

from demos import download
from demos.answer import answer, asking
from demos.diffusion import drawn
from demos.endpoints import file
from demos.i18n import both, escape, t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import empty, made_by, note, plate, refused
from genkit import core, diffusion, labels, models
from genkit.core import Problem, number, pick
from genkit.diffusion import clock, words
from genkit.hub import amount

# combinations that no training picture shows (emoji.held_out)
EXAMPLES = ["a watermelon on a purple background", "a penguin on a yellow background", "a mushroom on a purple background", "一座房子，橙色背景"]
PROMPT = 1000  # characters
MOST = 8  # pictures of one batch
LARGEST = 1024  # pixels
WAYS = {  # scheduler -> its name
    "": ("What suits the model", "模型自带的"),
    "dpm++": ("DPM-Solver++ (multistep)", "DPM-Solver++（多步）"),
    "unipc": ("UniPC", "UniPC（预测校正）"),
    "euler": ("Euler", "Euler（欧拉）"),
    "ddim": ("DDIM", "DDIM（确定性）"),
    "ddpm": ("DDPM: new noise at every step", "DDPM：每一步加新噪声"),
}
NAMES = tuple(WAYS)


# --- what is asked, checked


def text(prompt) -> str:
    """A prompt. Raises Problem for one that is no text or too long to look at."""
    if not isinstance(prompt, str) or len(prompt) > PROMPT:
        raise Problem("the prompt has {n} characters; at most {most} are read", "提示有 {n} 个字符；最多读取 {most} 个", n=len(str(prompt)), most=PROMPT)
    return prompt


def best(model: str) -> dict:
    """The settings that suit a model, where they are not those of most."""
    known = {**diffusion.VARIANTS, **models.catalogue("diffusion")}.get(model)
    return known.defaults if known else {}


def unguided(model: str) -> bool:
    """Whether a model was distilled to draw without guidance; then nothing can be kept out of its pictures either."""
    return best(model).get("guidance_scale") == 0


def sized(model: str, size) -> dict:
    """The size as a setting; a shipped model has its own."""
    size = number(size, 0, LARGEST, "size", whole=True)
    return {"size": size} if size and model in models.catalogue("diffusion") else {}


def checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, scheduler="", n=1) -> dict:
    """The settings of diffusion.sample(), every number moved into its range."""
    pick(tuple(download.choices("diffusion")), model, "text-to-image model", "文生图模型")
    pick(NAMES, scheduler, "scheduler", "调度器")
    guidance = None if guidance_scale is None else number(guidance_scale, 0, 15, "guidance_scale")
    return {
        "prompt": text(prompt),
        "negative_prompt": "" if unguided(model) else text(negative_prompt),
        "num_inference_steps": number(num_inference_steps, 1, 50, "num_inference_steps", whole=True),
        "guidance_scale": 0.0 if unguided(model) else guidance,
        "seed": number(seed, 0, 2**31 - 1, "seed", whole=True),
        "scheduler": scheduler,
        "n": number(n, 1, MOST, "n", whole=True),
    }


def drawing(model: str, settings: dict, kept=None, origin=None):
    """(marked pictures, Step) as they come out of the noise; `kept` is a Trace. How long it took is noted for those who ask beforehand."""
    pipe = models.use("diffusion", model)
    read, cut = words.fit(pipe, settings["prompt"])
    said = {**settings, "prompt": read} | ({"cut": cut} if cut else {})
    seed, began = said.pop("seed"), time.monotonic()
    for step in models.guard(diffusion.sample(pipe, **settings, kept=kept, origin=origin)):
        yield [labels.mark(picture, model=f"diffusion/{model}", seed=seed + index, **said) for index, picture in enumerate(step.pictures)], step
    if origin is None:
        clock.note(timed(model, settings), step.steps, settings["n"], guided(settings["guidance_scale"]), time.monotonic() - began)


def timed(model: str, settings: dict) -> str:
    """Under what the time is noted: a large picture takes longer than a small one."""
    return f"{model} {settings.get('size') or ''}"


def guided(guidance) -> bool:
    return guidance is None or guidance > 1


def diffusion_sample(
    prompt: str,
    negative_prompt: str = "",
    num_inference_steps: int = 20,
    guidance_scale: float = 4.0,
    seed: int = 0,
    model: str = "mini-sd",
    scheduler: str = "",
    size: int = 0,
) -> dict:
    """Draw one picture for a prompt in English or Chinese: a PNG file at the model's own size (64 x 64 for mini-sd).

    size: the side of the picture in pixels, for a pretrained model, a multiple of 64 up to 1024; 0 is its own. A model that was distilled to draw without
    guidance does so, whatever guidance_scale and negative_prompt say. scheduler: dpm++, unipc, euler, ddim, ddpm, or "" for what suits the model. What the text encoder could not read of a long prompt stands as "cut" in the
    mark of the file.
    """
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, scheduler) | sized(model, size)
    *_, ((picture,), _) = drawing(model, settings)
    return file(picture)


# --- what the page says before


async def before(prompt, model, n, num_inference_steps, guidance_scale, size=0, run="") -> str:
    """What there is to say of a prompt before it is drawn: strange words, what is cut off, how long it will take.

    run: the last drawing; a question that is the same as the one before would not be asked.
    """
    try:
        settings = checked(prompt, "", num_inference_steps, guidance_scale, 0, model, "", n) | sized(model, size)
        return await asyncio.to_thread(foreseen, model, settings)
    except Problem as problem:
        return refused(problem)


def foreseen(model: str, settings: dict) -> str:
    strange = marked(settings["prompt"]) if diffusion.taught_here(model) else ""
    return strange + lost(model, settings["prompt"]) + estimate(model, settings)


def marked(prompt: str) -> str:
    """The prompt with every word marked that mini-sd has never seen, and what it knows that is spelt like it."""
    prompt = words.legible(prompt)
    found = [word for word in words.split(prompt) if not word.known]
    if not found:
        return ""
    shown, place = "", 0
    for word in found:
        shown += f"{escape(prompt[place : word.start])}<mark>{escape(word.text)}</mark>"
        place = word.end
    each = "".join(f"<li>{unknown(word)}</li>" for word in {word.text.lower(): word for word in found}.values())
    return f'<div class="strange"><p>{shown}{escape(prompt[place:])}</p><ul>{each}</ul>{knows()}</div>'


def unknown(word) -> str:
    """One sentence about a strange word."""
    said, near = escape(word.text), ", ".join(map(escape, word.near))
    if near:
        return both(f"I don't know “{said}”; spelt most like it, I know: <b>{near}</b>", f"我不认识“{said}”；拼写最接近的、我认识的是：<b>{near}</b>")
    return both(f"I don't know “{said}”, and nothing that is spelt like it", f"我不认识“{said}”，也不认识写法相近的词")


def knows() -> str:
    """All things that mini-sd can draw, folded away."""
    from genkit import emoji

    english, chinese = ", ".join(emoji.THINGS), "、".join(thing.zh for thing in emoji.THINGS.values())
    heads = both(f"The {len(emoji.THINGS)} things that I can draw", f"我会画的 {len(emoji.THINGS)} 样东西")
    return f"<details><summary>{heads}</summary><p>{both(english, chinese)}</p></details>"


def lost(model: str, prompt: str) -> str:
    """What a text encoder will not read of a prompt, if the model is at hand to say so."""
    if ("diffusion", model) not in models.held():
        return ""
    _, cut = words.fit(models.use("diffusion", model), prompt)
    if not cut:
        return ""
    said = escape(cut if len(cut) < 90 else cut[:80] + " …")
    return note(f"The text encoder reads no further; cut off: “{said}”", f"文本编码器读不到这么长；被截去的部分：“{said}”", warn=True)


def estimate(model: str, settings: dict) -> str:
    """How long the drawing will take here, from those before it."""
    seconds = clock.expected(timed(model, settings), settings["num_inference_steps"], settings["n"], guided(settings["guidance_scale"]))
    if seconds is None:
        return note("How long it takes here is known after the first picture.", "画完第一张后才知道在这里需要多久。")
    said = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return note(f"About {said} s, going by the last drawings on this machine.", f"大约 {said} 秒（按本机最近几次的用时）。")


# --- what the page shows


ON = {"cuda": ("the GPU", "显卡"), "mps": ("the GPU", "显卡"), "cpu": ("the CPU", "CPU")}
PLACED = {"whole": ("whole", "整个"), "parts": ("one part at a time", "逐个部分"), "layers": ("layer by layer", "逐层")}


def suits(model: str) -> str:
    """What a pretrained model is best at, and how it finds room here, before it is loaded."""
    remote = models.catalogue("diffusion").get(model)
    if remote is None:
        return ""
    if models.elsewhere("diffusion", model):
        return note(
            "It sends the finished picture only: no steps, no map of the words, no edits.", "它只送来画好的图片：没有步骤，看不到词语的作用，也不能编辑。"
        )
    return recommended(best(model)) + placed(model, remote)


def recommended(defaults: dict) -> str:
    if "size" not in defaults:
        return ""
    steps, guidance, size = defaults["num_inference_steps"], defaults["guidance_scale"], defaults["size"]
    how = (f"guidance {guidance:g}", f"引导强度 {guidance:g}") if guidance else ("no guidance", "不用引导")
    return note(f"Best with {steps} steps, {how[0]}, {size} × {size} pixels.", f"最佳设置：{steps} 步，{how[1]}，{size} × {size} 像素。")


def placed(model: str, remote) -> str:
    """In which precision and how it runs on this machine, and why; of a loaded model, how it does."""
    plan = None
    if ("diffusion", model) in models.held():
        plan = getattr(models.use("diffusion", model), "plan", None)
    elif remote.parts:
        plan = diffusion.planned(remote, core.device().type)
    if plan is None:
        return ""
    (en, zh), way = ON[plan.device], PLACED[plan.way]
    room, need = amount(plan.free), amount(plan.need)
    if not plan.fits:
        return note(
            f"It does not fit: even {way[0]} in {plan.dtype} it takes {need}, and {room} are free on {en}.",
            f"放不下：即使{way[1]}以 {plan.dtype} 运行也要 {need}，而{zh}上可用 {room}。",
            warn=True,
        )
    return note(
        f"Here it runs on {en}, {way[0]}, in {plan.dtype}: {need} of the {room} that are free; {plan.why[0]}.",
        f"在这里它会在{zh}上{way[1]}以 {plan.dtype} 运行，用 {need}（可用 {room}）：{plan.why[1]}。",
    )


@told
def draw(pen, asked, prompt, model, n, scheduler, num_inference_steps, guidance_scale, negative_prompt, seed, size=0):
    """(HTML, key): the pictures as they come out of the noise, large: what a visitor asked for at `asked`, by their clock, until it is done or they stop it."""
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, scheduler, n) | sized(model, size)
    kept, title, stopped = diffusion.Trace(), "", False
    for pictures, step in drawing(model, settings, kept):
        title = both(f"step {step.step} of {step.steps}", f"第 {step.step} 步，共 {step.steps} 步") if step.step < step.steps else ""
        stopped = step.step < step.steps and pen.rests(asked)
        if stopped:
            break
        if not pictures:
            yield f'<div class="run"><p role="status">{both("Waiting for the server…", "正在等待服务器……")}</p></div>', gr.skip()
            continue
        bar = f'<progress max="{step.steps}" value="{step.step}" aria-label="denoising"></progress>'
        yield f'{hung(pictures, title, settings["seed"])}<div class="run">{bar}</div>', gr.skip()
    steps, guidance = settings["num_inference_steps"], settings["guidance_scale"]
    about = made_by(model, prompt=prompt, seed=settings["seed"], steps=steps, guidance=guidance, scheduler=scheduler, size=settings.get("size"))
    yield hung(pictures, title, settings["seed"]) + odd(step) + lost(model, prompt) + about, gr.skip() if stopped else drawn.put(model, kept)


def hung(pictures, title: str, seed: int) -> str:
    """One picture large, or several with their seeds; nothing before there is one."""
    if not pictures:
        return ""
    if len(pictures) == 1:
        return f'<div class="large">{plate(pictures[0], title, smooth=True)}</div>'
    each = "".join(plate(picture, both(f"seed {seed + index}", f"种子 {seed + index}"), title, smooth=True) for index, picture in enumerate(pictures))
    return f'<div class="batch">{each}</div>'


def odd(step) -> str:
    """What is odd about a result, such as that a safety checker withheld it."""
    return "".join(note(*remark, warn=True) for remark in step.remarks)


def first() -> tuple[str, str, str]:
    """(what is said before, key, picture) when the tab opens."""
    settings = checked(EXAMPLES[0], "", 20, 4, 7, "mini-sd")
    kept = diffusion.Trace()
    *_, (pictures, step) = drawing("mini-sd", settings, kept)
    shown = hung(pictures, "", 7) + made_by("mini-sd", prompt=EXAMPLES[0], seed=7, steps=step.steps, guidance=4)
    return foreseen("mini-sd", settings), drawn.put("mini-sd", kept, first=True), shown


def settle(model: str) -> tuple:
    """The sliders at what suits a model, those greyed that do nothing for it, and why."""
    suited, pretrained, free = best(model), model in models.catalogue("diffusion"), unguided(model)
    remote, own = pretrained and models.elsewhere("diffusion", model), model in diffusion.OWN_WAY
    reasons = {UNGUIDED: free, ONLY_DIGITS: model == "digits", OWN_WAY: own, ITS_OWN: remote}
    why = "".join(note(*reason) for reason, counts in reasons.items() if counts)
    return (
        suited.get("num_inference_steps", 20),
        gr.Slider(value=suited.get("guidance_scale", 4), interactive=not free),
        gr.Slider(value=suited.get("size", 512), visible=pretrained),
        gr.Textbox(interactive=not free and model != "digits"),
        gr.update(value="", interactive=False) if own or remote else gr.update(interactive=True),
        gr.HTML(why, visible=bool(why)),
    )


UNGUIDED = (
    "This model was distilled to draw in a few steps without guidance: guidance is off, and it cannot be told what to leave out.",
    "这个模型经过蒸馏，只需几步、不用引导：引导已关闭，也不能告诉它不要画什么。",
)
OWN_WAY = (
    "It was trained for one way from noise to picture, so it draws with its own scheduler only.",
    "它只为一种从噪声到图片的走法训练过，所以只能用自带的调度器。",
)
ITS_OWN = ("The scheduler is chosen by its server; some servers choose steps and guidance too.", "调度器由它的服务器决定；有些服务器还会自定步数和引导强度。")
ONLY_DIGITS = ("This model knows digits only, so there is nothing to leave out.", "这个模型只认识数字，没有可排除的内容。")


def build(parts: dict) -> None:
    """Build the controls and the result; what other sections need of them goes into `parts`."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            prompt = gr.Textbox(
                EXAMPLES[0], label=t("Your prompt, English or Chinese", "提示词，中文或英文"), lines=2, max_length=PROMPT, elem_id="diffusion-prompt"
            )
            foretold = answer("diffusion-before", before, "", elem_id="diffusion-before")
            with gr.Row():
                go = gr.Button(t("Draw", "画图"), variant="primary", min_width=110, elem_id="diffusion-draw")
                stop = gr.Button(t("Stop", "停止"), min_width=80)
            gr.Examples(
                [[each] for each in EXAMPLES],
                prompt,
                label=t("Combinations that no training picture showed", "训练图片中从未出现过的组合"),
            )
            model = gr.Dropdown(download.choices("diffusion"), value="mini-sd", label=t("Model", "模型"), filterable=False)
            download.panel("diffusion", model, more=suits)
            with gr.Accordion(t("More", "更多"), open=False) as more:
                n = gr.Slider(1, MOST, 1, step=1, label=t("Pictures", "图片数"), info=t("Each from noise of its own.", "每张从各自的噪声画起。"))
                count = gr.Slider(1, 50, 20, step=1, label=t("Steps", "步数"), info=t("How often a little noise is taken out.", "去噪的次数。"))
                guidance = gr.Slider(
                    0, 15, 4, step=0.5, label=t("Guidance", "引导强度"), info=t("How strictly it follows your words.", "多严格地按照您的文字来画。")
                )
                scheduler = gr.Dropdown(
                    [(t(*said), name) for name, said in WAYS.items()],
                    value="",
                    label=t("Scheduler", "调度器"),
                    info=t("The way from noise to picture.", "从噪声走到图片的方式。"),
                    filterable=False,
                )
                size = gr.Slider(
                    256,
                    LARGEST,
                    512,
                    step=64,
                    label=t("Size", "尺寸"),
                    info=t("Pixels on each side.", "每边的像素数。"),
                    visible=False,
                    elem_id="diffusion-size",
                )
                negative = gr.Textbox("", label=t("Not in the picture", "不想出现的内容"), max_length=PROMPT)
                limits = gr.HTML("", visible=False, elem_id="diffusion-limits")
                seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The model is waking up…", "模型正在启动……"), elem_id="diffusion-result")
            run = gr.Textbox("", visible=False)  # the key of the drawing that the sections look into

    inputs = [*stopped_by(stop), prompt, model, n, scheduler, count, guidance, negative, seed, size]
    asks = asking(foretold, prompt=prompt, model=model, n=n, num_inference_steps=count, guidance_scale=guidance, size=size, run=run)
    drawing_event = gr.on(
        [go.click, prompt.submit], draw, inputs, [result, run], js=ASKED, concurrency_id="heavy", concurrency_limit=2, api_visibility="private"
    )
    drawing_event.then(**asks)
    gr.on([prompt.change, model.change, n.change, count.change, guidance.change, size.change], **asks)
    model.change(settle, model, [count, guidance, size, negative, scheduler, limits], queue=False, api_visibility="private", show_progress="hidden")
    gr.api(told(diffusion_sample), api_name="diffusion_sample", concurrency_id="heavy", concurrency_limit=2)
    parts |= {
        "prompt": prompt,
        "model": model,
        "n": n,
        "count": count,
        "guidance": guidance,
        "scheduler": scheduler,
        "negative": negative,
        "seed": seed,
        "size": size,
    }
    parts |= {"before": foretold, "run": run, "result": result, "draw": go, "more": more, "drawing": drawing_event}
