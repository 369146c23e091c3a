"""The word heat-map of the last drawing: where in the picture each word of the prompt acted."""

import asyncio

import gradio as gr

from demos.answer import answer, asking
from demos.diffusion import drawn
from demos.diffusion.make import MOST, checked, drawing
from demos.endpoints import file
from demos.i18n import both, escape, t, told
from demos.pieces import empty, note, plate, refused
from genkit import diffusion, labels, models
from genkit.core import Problem, number
from genkit.diffusion import words

TITLE = ("Which word acted where?", "哪个词在哪里起作用？")
LESSON = (
    "While it draws, every place of the picture asks all your words what belongs there, and listens to some more than to others: that is cross-attention. "
    "Bright: this place listened to this word more than other places did.",
    "画图时，画面的每个位置都会询问您的所有词语：这里该是什么？并对其中一些听得更多：这就是交叉注意力。越亮，表示这个位置比别处更听这个词。",
)
HOW = (
    "A map is the mean over all layers and heads of the share of its word, as in DAAM (Tang et al. 2022); each runs from its own least to its own most. "
    "It shows where a word was heard, not yet what it did there.",
    "每张图是该词所占份额在所有层和头上的平均，做法同 DAAM（Tang 等，2022）；每张图各自从最小到最大着色。它显示词语在哪里被听到，并不等于它在那里做了什么。",
)
JOINT = (
    "In this model words and picture ask each other in one joint attention. Shown is how each place divides among the tokens what it takes from them.",
    "在这个模型里，词语和画面在同一个联合注意力中互相询问。这里显示的是：每个位置从词元那里取来的内容，在各词元之间如何分配。",
)
NOTHING = ("Draw a picture above first.", "请先在上面画一张图。")
WORDS = 24  # maps shown of one prompt
PLACES = (("top left", "左上"), ("top", "上方"), ("top right", "右上"), ("left", "左侧"), ("middle", "中间"), ("right", "右侧"),
          ("bottom left", "左下"), ("bottom", "下方"), ("bottom right", "右下"))  # fmt: skip


def spoken(prompt: str) -> list:
    """The words of a prompt, at most WORDS."""
    return words.split(prompt)[:WORDS]


def peak(heat) -> tuple[float, float]:
    """(x, y) of the brightest place, each from 0 (left, top) to 1."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    return (column + 0.5) / heat.shape[1], (row + 0.5) / heat.shape[0]


def place(heat) -> tuple[str, str]:
    """Where its brightest place is, in words."""
    x, y = peak(heat)
    return PLACES[3 * min(int(3 * y), 2) + min(int(3 * x), 2)]


def heard(trace, index: int, k: int | None) -> tuple[list, list, object]:
    """(words, a map for each, the map of the rest) of one picture, at step k or in the mean. Raises Problem if the model cannot be listened to."""
    said = spoken(trace.settings["prompt"])
    return said, *diffusion.of_words(trace, [(word.start, word.end) for word in said], index, k)


# --- endpoint


def diffusion_heatmap(
    prompt: str, negative_prompt: str = "", num_inference_steps: int = 20, guidance_scale: float = 4.0, seed: int = 0, model: str = "mini-sd",
    step: int | None = None,
) -> dict:  # fmt: skip
    """Draw one picture and say where each word of the prompt acted, by cross-attention (DAAM, Tang et al. 2022).

    picture: the PNG; words: for each word its share of all attention, (x, y) of its peak from 0 to 1, heat (rows of numbers) and map, a PNG of it over the
    picture; rest: the share of the ends of the text and the padding; cut: what the text encoder could not read of the prompt. step: one step, from 1; null takes the mean of all.
    """
    settings, kept = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model), diffusion.Trace()
    *_, ((picture,), _) = drawing(model, settings, kept)
    k = None if step is None else number(step, 1, max(len(kept.moments), 1), "step", whole=True) - 1
    said, maps, rest = heard(kept, 0, k)

    def row(word, heat) -> dict:
        shown = labels.mark(diffusion.painted(heat, picture), model=f"diffusion/{model}", prompt=prompt, word=word.text)
        return {"word": word.text, "share": float(heat.mean()), "peak": list(peak(heat)), "heat": heat.round(5).tolist(), "map": file(shown)}

    rows, cut = [row(word, heat) for word, heat in zip(said, maps, strict=True)], words.fit(models.use("diffusion", model), settings["prompt"])[1]
    return {"picture": file(picture), "words": rows, "rest": float(rest.mean()), "cut": cut}


# --- what the page shows


async def heatmap(run, every, at, index) -> str:
    """The maps of all words, in the mean of all steps or at one of them."""
    if not run:
        return empty(*NOTHING)
    try:
        k = None if every else number(at, 1, 100, "step", whole=True) - 1
        return await asyncio.to_thread(mapped, run, k, number(index, 1, MOST, "picture", whole=True) - 1)
    except Problem as problem:
        return refused(problem)


def mapped(run, k: int | None, index: int) -> str:
    model, trace = drawn.get(run)
    index = min(index, max(len(trace.pictures), 1) - 1)
    k = None if k is None else min(k, len(trace.moments) - 1)
    with models.guarded():
        said, maps, rest = heard(trace, index, k)
        picture, joint = trace.pictures[index], diffusion.kind_of(models.use("diffusion", model)).attention == "joint"

    def shown(name: str, heat, about: str) -> str:
        return plate(labels.mark(diffusion.painted(heat, picture), model=f"diffusion/{model}"), name, about, smooth=True)

    each = [shown(escape(word.text), heat, share(heat)) for word, heat in zip(said, maps, strict=True)]
    last = shown(both("(the rest)", "（其余）"), rest, share(rest))
    own = plate(labels.mark(picture, model=f"diffusion/{model}"), both("The picture", "图片"), "", smooth=True)
    step = (
        both("mean of all steps", "所有步的平均") if k is None else both(f"step {k + 1} of {len(trace.moments)}", f"第 {k + 1} 步，共 {len(trace.moments)} 步")
    )
    told_rest = note(
        "The rest: the marks that begin and end the text and the padding after it. The text encoder reads on through them, so they know the whole sentence.",
        "其余：文本首尾的标记和后面的填充。文本编码器一路读到那里，所以它们知道整句话。",
    )
    return f'<div role="status"><p class="note">{step}</p></div><div class="heats">{own}{"".join(each)}{last}</div>{told_rest}{note(*JOINT) if joint else ""}{note(*HOW)}'


def share(heat) -> str:
    """How much attention went there, and where most of it, in words."""
    where = place(heat)
    part = f"{100 * float(heat.mean()):.1f} %"
    return both(f"{part}, most {where[0]}", f"{part}，{where[1]}最多")


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    run, index = parts["run"], parts["index"]
    gr.HTML(note(*LESSON))
    every = gr.Checkbox(True, label=t("Mean of all steps", "所有步的平均"))
    at = gr.Slider(1, 20, 8, step=1, label=t("or at this step", "或只看这一步"), elem_id="diffusion-heat-at")
    maps = answer("diffusion-heat", heatmap, empty(*NOTHING), elem_id="diffusion-heat-maps")
    asks = asking(maps, run=run, every=every, at=at, index=index)

    def settle(run, at):
        trace = drawn.there(run)
        last = max(len(trace.moments), 1) if trace else 20
        return gr.Slider(maximum=max(last, 2), value=min(at, last))

    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 16}
    for event in (parts["drawing"].success, parts["heat"].expand):
        event(settle, [run, at], at, **light).then(**asks)
    at.input(lambda: False, None, every, queue=False, api_visibility="private", show_progress="hidden").then(**asks)
    gr.on([every.input, index.change, run.change], **asks)
    gr.api(told(diffusion_heatmap), api_name="diffusion_heatmap", concurrency_id="heavy", concurrency_limit=2)
    parts |= {"heat_every": every, "heat_at": at, "heats": maps}
