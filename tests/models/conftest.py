"""No models in memory before a test, and a small real folder of weights."""

from pathlib import Path

import pytest

from genkit import core, models
from genkit.classifier import Classifier, save


@pytest.fixture(autouse=True)
def fresh():
    models.configure(max_models=6)
    yield
    models._models.clear()
    models._allowed.clear()


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A real folder of weights, about 3 MB."""
    folder = tmp_path_factory.mktemp("weights") / "classifier" / "digits"
    save(core.build(lambda: Classifier([16, 64, 128], 600), 0), folder)
    return folder
