"""Take a VAE along, bring one, push one, and the code for what the tab shows."""

import gradio as gr

from demos import keep as panel
from demos.i18n import both
from demos.keep import literal
from demos.pieces import made_by, wall
from demos.vae.make import NAMES, test_digits
from genkit import keep, labels, models, runs, vae
from genkit.core import number, pick

TITLE = ("Keep it: download, load, share, code", "带走它：下载、载入、分享、代码")
MOST = 20  # digits that a model which a visitor has brought makes at a time
WHAT = "A variational autoencoder of handwritten digits, 28 x 28 pixels, {how}."
LOAD = 'from genkit import vae\n\nmodel = vae.load("the folder of this file")\npictures = next(vae.sample(model, n=20, seed=7))\n'
SAMPLE = """from PIL import Image

from genkit import vae

model = vae.load({variant})
made = vae.reconstruct(model, vae.digit_from(Image.open("my-digit.png")))
made.output.save("again.png")
print(made.recon, made.kl, made.mu)
pictures = next(vae.sample(model, n={n}, seed={seed}))
for index, picture in enumerate(pictures):
    picture.save(f"{{index}}.png")
"""
TRAIN = """from genkit import vae
{changed}
for event in {train}:
    print(event.step, event.metrics){stop}
vae.save(event.model, "my-vae")
pictures = next(vae.sample(event.model, n={n}, seed={seed}))
"""


def form() -> keep.Form:
    """What a VAE that somebody brings may look like."""
    architectures = tuple(dict.fromkeys(config.arch for config in vae.VARIANTS.values()))
    sizes = {"latent_dim": range(1, 513), "channels": range(1, 513)}
    return keep.Form(vae.VAE, {"arch": architectures, **sizes, "variational": (True, False), "conditional": (True, False)})


def asked(n, seed, most: int = 64) -> tuple[int, int]:
    """The request of the tab's controls, clamped as make.drawn() clamps it."""
    return number(n, 1, most, "n", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)


def shipped(variant, *_) -> panel.Made:
    """A variant as it is in the repository."""
    config = pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    rows = {"variant": variant, "steps": config.steps, "batch size": config.batch_size, "learning rate": config.lr, "seed": 0, "rules": literal(config.rules)}
    title = NAMES[variant][0] if variant in NAMES else variant
    card = keep.Card(title, WHAT.format(how="as shipped with the gallery"), rows, panel.DATA.format(count=60_000), LOAD, ("vae", "mnist"))
    return panel.Made(f"vae-{variant}", models.use("vae", variant), card)


def trained(run: runs.Snapshot, model) -> panel.Made:
    """A run's model as it is now."""
    from genkit.digits import digits  # brings torch, which the page must not wait for

    rows, data = panel.rows(run, panel.recipe("vae", run)), panel.DATA.format(count=run.about.get("examples") or len(digits("train")[1]))
    card = keep.Card("My VAE", WHAT.format(how="trained in front of everybody by a visitor of the gallery"), rows, data, LOAD, ("vae", "mnist"))
    return panel.Made(f"my-vae-{run.step}", model, card)


def show(model, _variant, n, seed) -> str:
    """Ten test digits redrawn by a model that a visitor has brought, and what it makes of pure chance."""
    n, seed = asked(n, seed, MOST)
    with models.guarded():
        redrawn = [made.output for made in vae.reconstruct_many(model, list(test_digits().values())[:10])]
        (dreams,) = vae.sample(model, n=n, seed=seed)
    first, second = (
        [labels.mark(picture, model="vae/of a visitor", seed=seed, index=index) for index, picture in enumerate(part)] for part in (redrawn, dreams)
    )
    heads = (("Ten test digits, redrawn", "重画十个测试数字"), ("From pure chance", "从随机数"))
    names = [str(index) for index in range(10)], [f"z{index + 1}" for index in range(len(dreams))]
    walls = (f"<h4>{both(*head)}</h4>{wall(part, its)}" for head, part, its in zip(heads, (first, second), names, strict=True))
    return "".join(walls) + made_by("VAE (zip)", seed=seed)


def sampling(variant, n, seed) -> str:
    """Python that makes what the tab shows."""
    n, seed = asked(n, seed)
    return SAMPLE.format(variant=literal(str(variant)), n=n, seed=seed)


def training(run: runs.Snapshot, _variant, n, seed) -> str:
    """Python that trains the same again, as far as it has come by now, and asks it for what the tab asks for."""
    n, seed = asked(n, seed)
    return panel.program("vae", TRAIN, run, panel.recipe("vae", run), run.changed, n=n, seed=seed)


KEEPING = panel.Keeping("vae", form, shipped, trained, show, sampling, training)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    panel.panel(KEEPING, kept, parts["keep"], [parts[name] for name in ("variant", "n", "seed")])
