"""Four families of generative models, small enough to train here: gan, vae, diffusion, text.

Every family is a package with the same six names: VARIANTS, PRETRAINED, load, train, sample, save.
Importing a family is cheap; torch is imported when a model is first asked for.
"""

import importlib

FAMILIES = ("gan", "vae", "diffusion", "text")


def family(name: str):
    """The module of one family, e.g. family("gan").sample(...). Raises Problem for a name that is not in FAMILIES."""
    from genkit.core import pick

    return importlib.import_module(f"genkit.{pick(FAMILIES, name, 'family', '模型家族')}")
