"""One seed, many settings: a grid over guidance or scheduler and steps; and two prompts' drawings as paths through latent space."""

import gradio as gr

from demos import download
from demos.diffusion.make import PROMPT, UNGUIDED, WAYS, best, checked, drawing, text, unguided
from demos.i18n import both, escape, t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import COLOURS, DASHES, empty, heading, made_by, note, plate
from genkit import diffusion
from genkit.core import pick

TITLE = ("Compare: settings, and the paths of two prompts", "比一比：各种设置，两句话的路径")
STEPS = (4, 8, 20)
GUIDANCES = (1.0, 2.5, 4.0, 8.0)
GRIDS = {"guidance": ("guidance × steps", "引导强度 × 步数"), "scheduler": ("scheduler × steps", "调度器 × 步数")}
SAID = {
    "guidance": (
        "Down: more guidance, so the words count more, until colours burn. Across: more steps. At guidance 1 the prompt is heard without being amplified.",
        "从上到下引导越强，文字越算数，直到颜色过浓；从左到右步数越多。引导强度 1 表示只听提示词，不放大它。",
    ),
    "scheduler": (
        "With few steps the better solvers are already there; with many all but DDPM meet in the same picture. DDPM adds new noise at every step, and goes elsewhere.",
        "步数少时，好的求解器已经画得不错；步数多时，除 DDPM 外大家都走到同一张图。DDPM 每一步都加新噪声，所以走到别处。",
    ),
}


def columns(model: str) -> tuple[int, ...]:
    """Numbers of steps; few where a model needs few."""
    suits = best(model).get("num_inference_steps", STEPS[-1])
    return STEPS if suits >= 10 else tuple(sorted({1, 2, 4, suits}))


def rows(kind: str, model: str) -> list[tuple[str, dict]]:
    """(name of a row, the settings that it changes)."""
    if pick(tuple(GRIDS), kind, "grid", "网格") == "guidance":
        if unguided(model):
            return [(both("no guidance", "不用引导"), {})]
        return [(f"{value:g}", {"guidance_scale": value}) for value in GUIDANCES]
    return [(both(*said), {"scheduler": name}) for name, said in WAYS.items() if name]


@told
def grid(pen, asked, kind, prompt, model, negative_prompt, seed):
    """The grid, cell by cell."""
    settings = checked(prompt, negative_prompt, 20, 4, seed, model)
    named, across, cells = rows(kind, model), columns(model), {}
    for row, (_, change) in enumerate(named):
        for column, steps in enumerate(across):
            if pen.rests(asked):
                return
            *_, ((picture,), _) = drawing(model, {**settings, **change, "num_inference_steps": steps})
            cells[row, column] = plate(picture, "", "", smooth=True)
            yield table(named, across, cells)
    yield table(named, across, cells) + note(*(UNGUIDED if unguided(model) else SAID[kind])) + made_by(model, prompt=prompt, seed=settings["seed"])


def table(named, across, cells: dict) -> str:
    """The cells that are there so far, (row, column) -> HTML."""
    head = "".join(f'<th scope="col">{both(f"{steps} steps", f"{steps} 步")}</th>' for steps in across)

    def line(row: int, name: str) -> str:
        drawn = "".join(f"<td>{cells.get((row, column), '')}</td>" for column in range(len(across)))
        return f'<tr><th scope="row">{name}</th>{drawn}</tr>'

    body = "".join(line(row, name) for row, (name, _) in enumerate(named))
    return f'<table class="settings"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'


# --- two prompts, two paths


@told
def walk(prompt_a, prompt_b, model, num_inference_steps, guidance_scale, seed):
    """The two drawings, and where they walked."""
    if model == "digits":
        pick(tuple(name for name in download.choices("diffusion") if name != model), model, "model with a latent space", "有潜空间的模型")
    kept, shown = [diffusion.Trace(), diffusion.Trace()], []
    for trace, prompt, letter in zip(kept, (prompt_a, prompt_b), "AB", strict=True):
        settings = checked(text(prompt), "", num_inference_steps, guidance_scale, seed, model)
        *_, ((picture,), _) = drawing(model, settings, trace)
        shown.append(plate(picture, letter, escape(str(prompt)[:80]), smooth=True))
        yield f'<div class="pair">{"".join(shown)}</div>'
    plane = diffusion.project(kept)
    end = plane.apart[-1] or 1.0
    half = next(step for step, distance in enumerate(plane.apart) if distance >= end / 2)
    said = note(
        f"Both begin at the same noise (seed {int(settings['seed'])}) and part at once: after {half} of {len(plane.apart) - 1} steps they are half as far apart as at the end. "
        f"The plane is the one that shows most of both paths: {100 * sum(plane.shown):.0f} % of all that happens in {latent_size(kept[0])} numbers.",
        f"两条路从同一份噪声（种子 {int(settings['seed'])}）出发，随即分开：走完 {len(plane.apart) - 1} 步中的 {half} 步，距离已达终点时的一半。"
        f"这个平面最能显示两条路径：{latent_size(kept[0])} 个数里发生的变化，有 {100 * sum(plane.shown):.0f}% 看得见。",
    )
    about = made_by(model, prompt=f"{prompt_a} / {prompt_b}", seed=settings["seed"])
    yield f'<div class="walked"><div class="pair">{"".join(shown)}</div>{drawn_paths(plane)}</div>{said}{about}'


def latent_size(trace) -> str:
    return f"{trace.moments[0].sample[0].numel():,}"


def drawn_paths(plane) -> str:
    """The paths as an SVG: dots are steps; the two differ in dashes and letters too."""
    points = [point for path in plane.paths for point in path]
    low, high = ([pick_(point[axis] for point in points) for axis in (0, 1)] for pick_ in (min, max))
    span = max(high[0] - low[0], high[1] - low[1]) or 1.0

    def at(point) -> tuple[float, float]:
        return 30 + 300 * (point[0] - low[0]) / span, 250 - 220 * (point[1] - low[1]) / span

    def path(index: int) -> str:
        places = [at(point) for point in plane.paths[index]]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--{COLOURS[index]})"/>' for x, y in places)
        x, y = places[-1]
        style = f'fill="none" stroke="var(--{COLOURS[index]})" stroke-width="2" stroke-dasharray="{DASHES[index]}"'
        return f'<polyline points="{line}" {style}/>{dots}<text class="end" x="{x + 7:.1f}" y="{y + 5:.1f}">{"AB"[index]}</text>'

    x, y = at(plane.paths[0][0])
    start = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="var(--ink)" stroke-width="2"/>'
    return f'<svg class="paths chart" viewBox="0 0 360 275" aria-hidden="true">{path(0)}{path(1)}{start}</svg>'


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    heading(
        "One seed, many settings", "同一个种子，不同设置",
        "The prompt, the model and the seed from above, drawn with each pair of settings.", "用上面的提示词、模型和种子，把每一对设置各画一遍。",
    )  # fmt: skip
    with gr.Row():
        kind = gr.Radio([(t(*said), name) for name, said in GRIDS.items()], value="guidance", label=t("Grid", "网格"), min_width=260, scale=2)
        go = gr.Button(t("Draw the grid", "画网格"), variant="primary", min_width=140)
        stop = gr.Button(t("Stop", "停止"), min_width=80)
    cells = gr.HTML(empty("The grid appears here, cell by cell.", "网格会一格一格出现在这里。"), elem_id="diffusion-grid")
    heading(
        "Two prompts, two paths", "两句话，两条路",
        "From the same noise to two pictures: each drawing is a walk through latent space, here seen in the plane that shows most of it.",
        "从同一份噪声走到两张图：每次绘制都是潜空间里的一次行走，这里投影到最能看清它的平面上。",
    )  # fmt: skip
    with gr.Row():
        other = gr.Textbox("a red apple on a black background", label=t("The other prompt, B", "另一句提示词 B"), max_length=PROMPT, min_width=260, scale=3)
        race = gr.Button(t("Draw both paths", "画两条路径"), variant="primary", min_width=160)
    walked = gr.HTML(empty("The paths appear here.", "路径会显示在这里。"), elem_id="diffusion-paths")

    heavy = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    top = [parts[name] for name in ("prompt", "model", "negative", "seed")]
    go.click(grid, [*stopped_by(stop), kind, *top], cells, js=ASKED, **heavy)
    race.click(walk, [parts["prompt"], other, parts["model"], parts["count"], parts["guidance"], parts["seed"]], walked, **heavy)
    parts |= {"grid_kind": kind, "grid": go, "grid_cells": cells, "path_other": other, "paths": race, "walked": walked}
