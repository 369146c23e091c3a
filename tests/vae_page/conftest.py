"""The VAE tab with untrained models, and a photo to bring."""

import pytest
from PIL import Image, ImageDraw

from demos.vae import clean, make, maps, odd
from genkit import core, vae


def untrained(name):
    config = vae.VARIANTS[name]
    return core.build(lambda: vae.VAE("mlp", config.latent_dim, 16, variational=config.variational, conditional=config.conditional), 0).eval()


@pytest.fixture(scope="module")
def tiny():
    """The page's models, each replaced by an untrained one of its latent size."""
    made = {name: untrained(name) for name in vae.VARIANTS}
    caches = (make.mirror, maps.explorer, maps.ground, odd.usual, odd.measured, clean.average)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GENKIT_DATA_DIR", raising=False)
        patch.setattr(make.models, "use", lambda family, name: made[name])
        [cache.cache_clear() for cache in caches]
        yield made
    [cache.cache_clear() for cache in caches]


@pytest.fixture
def seven(tmp_path):
    """A photo of a seven on grey paper, wider than high."""
    picture = Image.new("RGB", (400, 300), (180, 175, 160))
    ImageDraw.Draw(picture).line([(120, 60), (240, 60), (170, 240)], fill=(40, 40, 60), width=22, joint="curve")
    picture.save(tmp_path / "seven.png")
    return str(tmp_path / "seven.png")
