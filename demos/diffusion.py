"""The text-to-image tab: a prompt, and a picture that comes out of noise step by step."""

import gradio as gr

from demos import download, training
from demos.endpoints import file
from demos.i18n import both, t, told
from demos.pen import ASKED, Pen, stopped_by
from demos.pieces import empty, made_by, plate
from genkit import diffusion, labels, models
from genkit.core import Problem, number, pick

TITLE = ("Text to image", "文生图")
SENTENCE = (
    "The model has learnt to take a little noise out of a noisy picture. Started on pure noise and told what to look for, it takes it all out.",
    "模型学会了从带噪声的图片里去掉一点噪声。从纯噪声出发，再告诉它要找什么，它就一步步画出图来。",
)
HOW = (("pure noise", "纯噪声"), ("your words", "您的文字"), ("remove a little noise, 20 times", "去掉一点噪声，重复 20 次"), ("picture", "图片"))
EVERY = 25  # training steps between two looks at the samples
LESSON = (
    "A small diffusion model learns digits: real digits are drowned in noise and it must guess the noise. The loss falls quickly, the samples follow.",
    "一个小扩散模型学习数字：把真实的数字淹没在噪声里，让它猜出噪声。损失很快下降，样本随后变好。",
)
EXAMPLES = [["three strawberries on a white background"], ["a rainbow on a blue background"], ["a rocket on a black background"], ["一颗草莓，黄色背景"]]
PROMPT = 1000  # characters


def checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model) -> dict:
    """The settings of diffusion.sample(), every number moved into its range."""
    pick(tuple(download.choices("diffusion")), model, "text-to-image model", "文生图模型")
    for text in (prompt, negative_prompt):
        if not isinstance(text, str) or len(text) > PROMPT:
            raise Problem("the prompt has {n} characters; at most {most} are read", "提示有 {n} 个字符；最多读取 {most} 个", n=len(str(text)), most=PROMPT)
    return {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "num_inference_steps": number(num_inference_steps, 1, 50, "num_inference_steps", whole=True),
        "guidance_scale": None if guidance_scale is None else number(guidance_scale, 0, 15, "guidance_scale"),
        "seed": number(seed, 0, 2**31 - 1, "seed", whole=True),
    }


def steps(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model):
    """The Step objects of one picture, each with its marked preview; the last one is the picture."""
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model)
    for step in models.guard(diffusion.sample(models.use("diffusion", model), **settings)):
        yield labels.mark(step.image, model=f"diffusion/{model}", **settings), step


def diffusion_sample(
    prompt: str, negative_prompt: str = "", num_inference_steps: int = 20, guidance_scale: float = 4.0, seed: int = 0, model: str = "mini-sd"
) -> dict:
    """Draw one picture for a prompt in English or Chinese: a PNG file at the model's own size (64 x 64 for mini-sd)."""
    *_, (picture, _) = steps(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model)
    return file(picture)


@told
def draw(pen, asked, prompt, model, num_inference_steps, guidance_scale, negative_prompt, seed):
    """The picture as it comes out of the noise, large: what a visitor asked for at `asked`, by their clock, until it is done or they stop it."""
    title = ""
    for picture, step in steps(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model):
        title = both(f"step {step.step} of {step.steps}", f"第 {step.step} 步，共 {step.steps} 步") if step.step < step.steps else ""
        if pen.rests(asked):
            break
        bar = f'<progress max="{step.steps}" value="{step.step}" aria-label="denoising"></progress>'
        yield f'<div class="large">{plate(picture, title, smooth=True)}</div><div class="run">{bar}</div>'
    yield f'<div class="large">{plate(picture, title, smooth=True)}</div>' + made_by(
        model, prompt=prompt, seed=int(seed), steps=step.steps, guidance=guidance_scale
    )


def first() -> str:
    """What the tab shows when it opens."""
    *_, last = draw(Pen(), 1, EXAMPLES[0][0], "mini-sd", 20, 4, "", 7)
    return last


def build(page: gr.Blocks, kept: gr.BrowserState) -> gr.HTML:
    """Build the tab; the component that shows first()."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            prompt = gr.Textbox(EXAMPLES[0][0], label=t("Your prompt, English or Chinese", "提示词，中文或英文"), lines=2, max_length=PROMPT)
            gr.Examples(EXAMPLES, prompt, label=t("Try one of these", "试试这些"))
            model = gr.Dropdown(download.choices("diffusion"), value="mini-sd", label=t("Model", "模型"), filterable=False)
            download.panel("diffusion", model)
            with gr.Accordion(t("More", "更多"), open=False):
                count = gr.Slider(1, 50, 20, step=1, label=t("Steps", "步数"), info=t("How often a little noise is taken out.", "去噪的次数。"))
                guidance = gr.Slider(
                    0, 15, 4, step=0.5, label=t("Guidance", "引导强度"), info=t("How strictly it follows your words.", "多严格地按照您的文字来画。")
                )
                negative = gr.Textbox("", label=t("Not in the picture", "不想出现的内容"), max_length=PROMPT)
                seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
            with gr.Row():
                go = gr.Button(t("Draw", "画图"), variant="primary", min_width=110)
                stop = gr.Button(t("Stop", "停止"), min_width=80)
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The model is waking up…", "模型正在启动……"), elem_id="diffusion-result")
    with gr.Accordion(t("Train it yourself", "自己训练"), open=False):
        training.panel(page, kept, "diffusion", {"digits": (t("Digits", "数字"), {"variant": "digits"})}, LESSON, steps=600)

    def settle(name):
        """The steps and guidance that suit a model."""
        remote = models.catalogue("diffusion").get(name)
        defaults = remote.defaults if remote else {}
        return defaults.get("num_inference_steps", 20), defaults.get("guidance_scale", 4)

    inputs = [*stopped_by(stop), prompt, model, count, guidance, negative, seed]
    gr.on([go.click, prompt.submit], draw, inputs, result, js=ASKED, concurrency_id="heavy", concurrency_limit=2, api_visibility="private")
    model.change(settle, model, [count, guidance], queue=False, api_visibility="private", show_progress="hidden")
    gr.api(told(diffusion_sample), api_name="diffusion_sample", concurrency_id="heavy", concurrency_limit=2)
    return result
