"""Take a GAN along, bring one, push one, and the code for what the tab shows."""

import gradio as gr

from demos import keep as panel
from demos.gan.make import NAMES
from demos.keep import literal
from demos.pieces import made_by, wall
from genkit import gan, keep, labels, models, runs
from genkit.core import number, pick

TITLE = ("Keep it: download, load, share, code", "带走它：下载、载入、分享、代码")
MOST = 20  # digits that a model which a visitor has brought makes at a time
WHAT = "A generative adversarial network that draws handwritten digits, 28 x 28 pixels, {how}."
LOAD = 'from genkit import gan\n\nmodel = gan.load("the folder of this file")\npictures = next(gan.sample(model, "0123456789", n=20, seed=7))\n'
SAMPLE = """from genkit import gan

model = gan.load({variant})
pictures = next(gan.sample(model, {digits}, n={n}, seed={seed}))
for index, picture in enumerate(pictures):
    picture.save(f"{{index}}.png")
"""
TRAIN = """from genkit import gan
{changed}
for event in {train}:
    print(event.step, event.metrics){stop}
gan.save(event.model, "my-gan")
pictures = next(gan.sample(event.model, {digits}, n={n}, seed={seed}))
"""


def form() -> keep.Form:
    """What a GAN that somebody brings may look like."""
    architectures = tuple(dict.fromkeys(config.arch for config in gan.VARIANTS.values()))
    sizes = {"latent_dim": range(1, 513), "channels": range(1, 257), "d_channels": range(257)}
    return keep.Form(gan.GAN, {"arch": architectures, **sizes, "conditional": (True, False)})


def asked(digits, n, seed, most: int = 64) -> tuple[str, int, int]:
    """The request of the tab's controls, clamped as make.pictures() clamps it."""
    return str(digits)[:64], number(n, 1, most, "n", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)


def shipped(variant, *_) -> panel.Made:
    """A variant as it is in the repository."""
    config = pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    recipe = {"steps": config.steps, "batch size": config.batch_size, "learning rate": config.lr, "optimizer": config.optimizer, "seed": 0}
    rows = {"variant": variant, **recipe, "rules": literal(config.rules)}
    card = keep.Card(NAMES[variant][0], WHAT.format(how="as shipped with the gallery"), rows, panel.DATA.format(count=60_000), LOAD, ("gan", "mnist"))
    return panel.Made(f"gan-{variant}", models.use("gan", variant), card)


def recipe(run: runs.Snapshot) -> dict:
    """The arguments of train() that make the run again. Single steps are not repeated."""
    return panel.recipe("gan", run, single=False, players="both")


def trained(run: runs.Snapshot, model) -> panel.Made:
    """A run's model as it is now."""
    from genkit.digits import digits  # brings torch, which the page must not wait for

    rows, data = panel.rows(run, recipe(run)), panel.DATA.format(count=len(digits("train")[1]))
    card = keep.Card("My GAN", WHAT.format(how="trained in front of everybody by a visitor of the gallery"), rows, data, LOAD, ("gan", "mnist"))
    return panel.Made(f"my-gan-{run.step}", model, card)


def show(model, _variant, digits, n, seed) -> str:
    """Digits of a model that a visitor has brought."""
    digits, n, seed = asked(digits, n, seed, MOST)
    with models.guarded():
        (made,) = gan.sample_many(model, [(digits, n, seed)])
    names = [character for character in digits if character.isdecimal()]
    marked = [labels.mark(picture, model="gan/of a visitor", seed=seed, digits=digits, index=index) for index, picture in enumerate(made)]
    return wall(marked, [names[index % len(names)] for index in range(len(made))]) + made_by("GAN (zip)", seed=seed)


def sampling(variant, digits, n, seed) -> str:
    """Python that makes what the tab shows."""
    digits, n, seed = asked(digits, n, seed)
    return SAMPLE.format(variant=literal(str(variant)), digits=literal(digits), n=n, seed=seed)


def training(run: runs.Snapshot, _variant, digits, n, seed) -> str:
    """Python that trains the same again, as far as it has come by now, and asks it for what the tab asks for."""
    digits, n, seed = asked(digits, n, seed)
    changed = {name: step for name, step in run.changed.items() if name != "single"}
    return panel.program("gan", TRAIN, run, recipe(run), changed, digits=literal(digits), n=n, seed=seed)


KEEPING = panel.Keeping("gan", form, shipped, trained, show, sampling, training)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    panel.panel(KEEPING, kept, parts["keep"], [parts[name] for name in ("variant", "digits", "n", "seed")])
