"""The rules of the house: one word in four places, the wall between genkit and demos, and the contract that every family keeps."""

import ast
import importlib
import math
import re
import subprocess
import sys

import pytest

import genkit
from demos import TABS
from genkit import core

from .conftest import ROOT

FAMILIES = [importlib.import_module(f"genkit.{name}") for name in TABS]
VARIANTS = [(name, variant) for name, family in zip(TABS, FAMILIES, strict=True) for variant in family.VARIANTS]
CJK = re.compile("[\u4e00-\u9fff]")


def imported(path):
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def breaches(folder, forbidden):
    return [f"{path.relative_to(ROOT)}: {name}" for path in sorted((ROOT / folder).rglob("*.py")) for name in imported(path) if name.split(".")[0] in forbidden]


def test_genkit_never_imports_gradio():
    assert breaches("genkit", {"gradio"}) == []


def test_demos_never_import_torch_diffusers_or_transformers():
    assert breaches("demos", {"torch", "diffusers", "transformers"}) == []


def test_nothing_trusts_remote_code_unpickles_or_evaluates():
    risky = re.compile(r"trust_remote_code\s*=\s*True|weights_only\s*=\s*False|pickle\.load|(?<![\w.])eval\(|(?<![\w.])exec\(")
    found = [
        f"{path.name}:{number}"
        for folder in ("genkit", "demos")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if risky.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", TABS)
def test_one_word_names_the_family_its_tab_its_tests_and_its_weights(name):
    assert (ROOT / "genkit" / name / "__init__.py").exists()
    assert (ROOT / "demos" / f"{name}.py").exists() or (ROOT / "demos" / name / "__init__.py").exists()
    assert (ROOT / "tests" / f"test_{name}.py").exists()
    assert {folder.name for folder in (ROOT / "weights" / name).iterdir()} == set(genkit.family(name).VARIANTS)


def test_building_the_page_imports_no_heavy_library():
    code = "import sys; from demos import page; page.build(); print([name for name in ('torch', 'diffusers', 'transformers', 'accelerate') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_label_of_the_page_has_its_own_chinese():
    from demos import i18n, page

    page.build()
    english, chinese = i18n.I18N.translations["en"], i18n.I18N.translations["zh-CN"]
    assert english.keys() == chinese.keys() and len(english) > 40
    assert [text for text in chinese.values() if not CJK.search(text)] == []


@pytest.mark.parametrize("folder", ["genkit", "demos"])
def test_every_problem_is_told_in_both_languages(folder):
    told = []
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Problem" and len(node.args) >= 2:
                en, zh = (ast.unparse(argument) for argument in node.args[:2])
                told.append((path.name, node.lineno, not CJK.search(en), bool(CJK.search(zh)) or "'" not in zh))
    assert told and [entry for entry in told if not (entry[2] and entry[3])] == []


@pytest.mark.parametrize("family", FAMILIES, ids=TABS)
def test_a_family_has_the_six_names(family):
    assert family.VARIANTS and isinstance(family.PRETRAINED, dict)
    assert all(callable(getattr(family, name)) for name in ("load", "train", "sample", "save"))
    assert all(isinstance(remote, core.Remote) and remote.size > 0 and remote.licence for remote in family.PRETRAINED.values())


@pytest.mark.parametrize("name, variant", VARIANTS)
def test_a_shipped_variant_loads_and_samples_the_same_twice(name, variant):
    family = genkit.family(name)
    model, prompt = (
        family.load(variant),
        {"gan": ["07"], "vae": [], "diffusion": ["3" if variant == "digits" else "a red apple on a blue background"], "text": ["A"]}[name],
    )
    few = {"diffusion": {"num_inference_steps": 2}, "text": {"max_new_tokens": 4}}.get(name, {"n": 2})
    first, second = (list(family.sample(model, *prompt, seed=5, **few))[-1] for _ in range(2))
    first, second = (getattr(result, "image", result) for result in (first, second))
    assert first and first == second


@pytest.mark.parametrize("name", TABS)
def test_an_unknown_variant_is_refused_with_the_list_of_those_there_are(name):
    family = genkit.family(name)
    with pytest.raises(core.Problem, match="dcgna.*choose one of.*" + next(iter(family.VARIANTS))):
        next(family.train("dcgna", steps=1))


@pytest.mark.parametrize("name, variant", [pair for pair in VARIANTS if "mini-sd" not in pair[1]])  # their pictures are made in test_diffusion*.py
def test_training_reports_from_step_0_to_the_last(name, variant, monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    everywhere = {"corpus": "python"} if name == "text" else {}  # the text that is on every machine
    events = list(genkit.family(name).train(variant, steps=2, every=1, batch_size=4, seed=3, **everywhere))
    assert [event.step for event in events] == [0, 1, 2] and {event.steps for event in events} == {2}
    assert events[-1].metrics and all(math.isfinite(value) for value in events[-1].metrics.values())
    assert events[-1].preview
