"""Teach a text-to-image model of one's own: choose or draw up to twelve things, name them, and watch a fresh network learn to draw them when it is asked."""

import gradio as gr
from PIL import Image

from demos import pad, training
from demos.diffusion import levels
from demos.endpoints import opened
from demos.i18n import escape, t, told
from demos.pieces import chart, empty, made_by, note, promise, wall
from genkit import diffusion, emoji, keep, labels, models, runs
from genkit.core import Problem, number
from genkit.diffusion import sprites

TITLE = ("Teach your own text-to-image model", "教出您自己的文生图模型")
LESSON = (
    "Choose or draw up to twelve things and name each in a word or two. A fresh network, which cannot draw at all, learns to draw them on ten backgrounds, in seven tints, "
    "one to three of a kind. What turns pictures into latents and words into features it takes from mini-sd.",
    "选择或画出至多十二样东西，各起一两个词的名字。一个什么都不会画的新网络，会学着把它们画在十种背景上、染成七种颜色、一到三个一组。图片与潜变量、文字与特征之间的转换沿用 mini-sd。",
)
NAME, MOST, LEAST = "diffusion-teach", 12, 2
MINUTES = 10  # offered first, and the most
LISTENS, BEGINS = 0.05, 0.01  # the gap from which it listens to the word, and from which it begins to
CURVES = {"true": ("the caption of the picture", "图片自己的文字"), "other": ("the same words, another thing", "同样的话，换一样东西")}
SHELF = keep.Shelf(cap=40, keep=1800.0, nothing=("your own things are no longer here; add them again", "您自己的东西已不在这里；请重新添加"))
DRAWN, PROMPT = 4, 300  # pictures of a prompt; characters of it
WAITING = empty("It may draw while it is still learning.", "边学边画也可以。")


def offered() -> list[tuple]:
    """What there is to choose on this machine: (label, key)."""
    kinds = [(t(f"{name} (emoji)", f"{thing.zh}（表情）"), f"emoji {name}") for name, thing in emoji.THINGS.items()] if sprites.emoji_here() else []
    return kinds + [(t(f"digit {index}, “{en}”", f"数字 {index}，“{zh}”"), f"digit {en}") for index, (en, zh) in enumerate(sprites.NUMBERS)]


def chosen(keys, shelf: str) -> list:
    """The things to be taught. Raises Problem for what cannot be chosen here."""
    tables = {"emoji": sprites.emoji_things if sprites.emoji_here() else dict, "digit": sprites.digit_things}
    found = []
    for key in keys if isinstance(keys, list) else []:
        kind, _, name = str(key).partition(" ")
        table = tables[kind]() if kind in tables else {}
        if name not in table:
            raise Problem("'{key}' cannot be chosen here; choose from the list", "这里不能选“{key}”；请从列表中选择", key=str(key)[:40])
        found.append(table[name])
    found += SHELF.get(shelf) if shelf else []
    if not LEAST <= len(found) <= MOST:
        raise Problem(
            "choose or draw {least} to {most} things; there are {n}", "请选择或画出 {least} 到 {most} 样东西；现有 {n} 样", least=LEAST, most=MOST, n=len(found)
        )
    return found


def begin(owner: str, keys, shelf, minutes, seed) -> str:
    """Start a run; its id. Of the things only the names go into what snapshots say."""
    from genkit.diffusion import teach  # brings torch, which the page must not wait for

    things, seconds = chosen(keys, shelf), 60 * number(minutes, 0.5, MINUTES, "minutes")
    seed = number(seed, 0, 2**31 - 1, "seed", whole=True)
    about = {"seconds": seconds, "seed": seed, "things": tuple(" / ".join(filter(None, (thing.en, thing.zh))) for thing in things)}
    return runs.start(owner, teach.train(things, seconds=seconds, seed=seed), title=NAME, deadline=1.3 * seconds + 90, about=about)


# --- one's own things


def add(name, drawn, path, shelf: str):
    """A drawing or an uploaded picture with its name, put beside those that are there."""
    if not drawn and not path:
        raise Problem("draw a thing on the pad, or choose a picture, and give it a name", "请在画板上画一样东西，或选一张图片，并给它起名")
    picture = sprites.cut_out(opened(path)) if path else sprites.cut_out(pad.picture(drawn), pen=True)
    made = sprites.named(name, picture)
    mine = list(SHELF.get(shelf)) if shelf else []
    if len(mine) >= MOST or made.key in {thing.key for thing in mine}:
        raise Problem("there is a '{name}' already, or there are {most} things", "已经有“{name}”了，或已满 {most} 样", name=made.key, most=MOST)
    if shelf:
        SHELF.drop(shelf)
    return SHELF.put([*mine, made]), shown([*mine, made]), "", "", None


def shown(things: list) -> str:
    """One's own things, cut out, with their names."""
    if not things:
        return ""
    sheets = []
    for thing in things:
        sheet = Image.new("RGB", thing.picture.size, emoji.BACKGROUNDS["yellow"])
        sheet.paste(thing.picture, (0, 0), thing.picture)
        sheets.append(sheet)
    return wall(sheets, [" / ".join(filter(None, (thing.en, thing.zh))) for thing in things])


def clear(shelf: str):
    SHELF.drop(shelf)
    return "", ""


# --- what it says


def listens(exam) -> str:
    """Whether it listens to the word yet."""
    gap = exam.gap
    said = (f"loss {exam.true:.3f} with the caption of the picture, {exam.other:.3f} when the word for the thing is exchanged", f"用图片自己的文字时损失 {exam.true:.3f}，换掉东西的名称后 {exam.other:.3f}")  # fmt: skip
    if gap < BEGINS:
        return note(f"Does it listen to the word yet? Not yet: {said[0]}. The two are alike.", f"它听得懂词了吗？还没有：{said[1]}，两者差不多。")
    if gap < LISTENS:
        return note(f"Does it listen to the word yet? It begins to: {said[0]}.", f"它听得懂词了吗？开始听了：{said[1]}。")
    return note(f"Does it listen to the word yet? Yes: {said[0]}. A wrong word misleads it.", f"它听得懂词了吗？听懂了：{said[1]}。词错了，它就会画错。")


def words(exam) -> str:
    """How far apart the names are for the text encoder, and whether it had to go to school."""
    apart, first, second = exam.near
    first, second = escape(first), escape(second)
    if exam.schooled is None:
        return note(
            f"The shipped text encoder tells the names apart: the nearest two, “{first}” and “{second}”, differ by {apart:.0%} of their size. It is used as it is.",
            f"自带的文本编码器分得清这些名称：最接近的“{first}”和“{second}”也相差 {apart:.0%}。直接使用它。",
        )
    return note(
        f"To the shipped text encoder “{first}” and “{second}” say too nearly the same (they differ by {apart:.0%} of their size). So a copy of it went to school first: asked which thing, "
        f"tint, background and number a caption names, it is right in {exam.schooled:.0%} of the hardest question.",
        f"在自带的文本编码器看来，“{first}”和“{second}”太接近（只差 {apart:.0%}）。所以先让它的一个副本上了学：问它一句话里是什么东西、什么颜色、什么背景、几个，最难的一问答对 {exam.schooled:.0%}。",
    )


def examined(exam, exams=()) -> str:
    """The promise, whether it listens, the loss by noise level, the words."""
    if exam is None or exam.true is None:
        return ""
    exams = [each for each in exams or (exam,) if each.true is not None]
    gaps = chart([(each.step, {"true": each.true, "other": each.other}) for each in exams], CURVES) if len(exams) > 1 else ""
    asked = "".join(f"<li>{escape(prompt)}</li>" for prompt in exam.prompts)
    said = note("Asked for, in this order; where possible on backgrounds that the thing was never shown on:", "依次要求画的是（尽量选该物从未出现过的背景）：")
    return f'<div class="exam">{said}<ol class="asked">{asked}</ol>{promise(exam, levels.ENDS)}{listens(exam)}{gaps}{words(exam)}{levels.levels(exams)}</div>'


@told
def draw(kept, prompt, seed):
    """What the visitor's own model, as it is now, draws for their prompt."""
    run, owner = (kept or {}).get(NAME), (kept or {}).get("owner")
    if not run or not runs.owns(run, owner):
        raise Problem("you have taught no model yet; start one above", "您还没有教过模型；请在上面开始一次")
    if not isinstance(prompt, str) or len(prompt) > PROMPT:
        raise Problem("the prompt has {n} characters; at most {most} are read", "提示有 {n} 个字符；最多读取 {most} 个", n=len(str(prompt)), most=PROMPT)
    seed, step = number(seed, 0, 2**31 - 1, "seed", whole=True), runs.snapshot(run).step
    *_, last = models.guard(diffusion.sample(runs.model(run), prompt, num_inference_steps=14, guidance_scale=4.0, seed=seed, n=DRAWN))
    marked = [
        labels.mark(picture, model="genkit, taught by a visitor", prompt=prompt, seed=seed + index, step=step) for index, picture in enumerate(last.pictures)
    ]
    return wall(marked, [f"{index + 1}" for index in range(len(marked))]) + made_by("mini-sd, your U-Net", step=step, seed=seed)


# --- the section


def choosing(parts: dict) -> list:
    """Build the choice of things; what begin() takes first."""
    here = sprites.emoji_here()
    first = [f"emoji {name}" for name in list(emoji.THINGS)[:6]] if here else [f"digit {en}" for en, _ in sprites.NUMBERS[:4]]
    parts["teach_keys"] = gr.Dropdown(
        offered(), value=first, multiselect=True, max_choices=MOST, label=t("Things to teach", "要教的东西"), elem_id="diffusion-teach-things"
    )
    if not here:
        gr.HTML(
            note(
                "The emoji pictures that mini-sd was taught with are not on this machine. Take digits out of MNIST, draw, or choose pictures of your own.",
                "教 mini-sd 用的表情图片不在本机上。可以用 MNIST 里的数字，也可以自己画，或选自己的图片。",
            )
        )
    with gr.Accordion(t("Add a thing of your own: draw or choose a picture", "添加自己的东西：画一个，或选一张图片"), open=not here):
        parts["teach_pad"] = pad.pad(14, elem_id="diffusion-teach-pad", label=t("Your thing", "您的东西"))
        parts["teach_file"] = gr.Image(
            label=t("Or a picture on a plain background", "或纯色背景的图片"), type="filepath", sources=["upload"], height=140, elem_id="diffusion-teach-file"
        )
        parts["teach_name"] = gr.Textbox(
            label=t("Its name", "它的名称"),
            info=t("A word or two, English or Chinese, or both: dragon / 龙", "一两个词，中文或英文皆可，也可两种都写：dragon / 龙"),
            max_length=80,
            elem_id="diffusion-teach-name",
        )
        with gr.Row():
            parts["teach_add"] = gr.Button(t("Add it", "添加"), min_width=90, elem_id="diffusion-teach-add")
            parts["teach_clear"] = gr.Button(t("Forget mine", "清除我的"), min_width=90)
        parts["teach_mine"] = gr.HTML(elem_id="diffusion-teach-mine")
        parts["teach_shelf"] = gr.State("", time_to_live=SHELF.keep, delete_callback=SHELF.drop)
    return [parts["teach_keys"], parts["teach_shelf"]]


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    report = gr.HTML(elem_id="diffusion-teach-report", elem_classes="live", render=False)
    mine = gr.Column(visible=False, render=False, elem_id="diffusion-teach-own")
    desk = training.Panel(
        kept,
        "diffusion",
        name=NAME,
        more=lambda shot, own, fresh: {report: examined(shot.exam, shot.exams), mine: gr.Column(visible=own and shot.exam is not None)},
        detail=lambda run, exam: examined(exam, levels.until(run, exam)),
        begins=("Teach it from nothing", "从零开始教"),
    )
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            things = choosing(parts)
            minutes = gr.Slider(
                1, MINUTES, MINUTES, step=1, label=t("Minutes", "分钟"),
                info=t("It learns until they are over. Fewer things need fewer minutes.", "学到时间用完为止。东西越少，所需时间越短。"),
            )  # fmt: skip
            seed = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
            desk.buttons()
        with gr.Column(scale=2, min_width=280):
            desk.status()
            with desk.look():
                report.render()
            desk.numbers()
            mine.render()
            with mine:
                prompt = gr.Textbox(label=t("Draw with your model", "用您的模型画"), max_length=PROMPT, elem_id="diffusion-teach-prompt")
                go = gr.Button(t("Draw four pictures", "画四张"), variant="secondary", elem_id="diffusion-teach-draw")
                result = gr.HTML(WAITING, elem_id="diffusion-teach-result")
    desk.extra = [report, mine]
    desk.starts(desk.start, begin, [*things, minutes, seed])
    own = [parts[f"teach_{name}"] for name in ("name", "pad", "file", "shelf")]
    after = [parts[f"teach_{name}"] for name in ("shelf", "mine", "name", "pad", "file")]
    parts["teach_add"].click(told(add), own, after, concurrency_limit=4, **training.PRIVATE)
    parts["teach_clear"].click(clear, parts["teach_shelf"], after[:2], queue=False, **training.PRIVATE)
    pool = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    gr.on([go.click, prompt.submit], draw, [kept, prompt, seed], result, **pool)
    desk.ready(page)
