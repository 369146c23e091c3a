"""Diffusion in two dimensions: the way back and the field against what is known by hand, shapes, learning, what the page says."""

import math

import pytest
import torch
from PIL import Image

from genkit import runs
from genkit.core import Problem
from genkit.diffusion import live, points

PLACE = torch.tensor([0.5, -1.0])


class OnePoint(torch.nn.Module):
    """The exact v where all data are one point: noise = (x - a x0) / s, v = a noise - s x0."""

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        alphas = points.levels()[t][:, None]
        a, s = alphas.sqrt(), (1 - alphas).sqrt()
        return a * (x - a * PLACE) / s - s * PLACE


def test_the_way_back_ends_in_the_only_point_there_is():
    way = points.paths(OnePoint(), 6, 10)
    assert way.shape == (11, 6, 2) and way[0].std() > 0.5
    assert torch.allclose(way[-1], PLACE.expand(6, 2), atol=1e-3)


def test_the_field_is_the_gradient_of_the_logarithm_of_a_normal_density_around_that_point():
    for t in (100, 600):
        places, score = points.field(OnePoint(), t, across=5)
        alpha = points.levels()[t]
        assert torch.allclose(score, -(places - alpha.sqrt() * PLACE) / (1 - alpha), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", points.SHAPES)
def test_a_ready_shape_gives_points_within_the_pad_on_its_ink(name):
    sheet = points.shape(name)
    found = points.from_picture(sheet)
    assert found.shape == (points.COUNT, 2) and found.abs().max() <= points.EDGE
    columns, rows = ((found[:, 0] / points.EDGE + 1) * 140).long(), ((1 - found[:, 1] / points.EDGE) * 140).long()
    assert all(sheet.getpixel((min(x, 279), min(y, 279))) < 128 for x, y in zip(columns[:100].tolist(), rows[:100].tolist(), strict=True))


def test_an_empty_drawing_and_an_unknown_shape_are_refused():
    with pytest.raises(Problem, match="hardly anything is drawn"):
        points.from_picture(Image.new("RGB", (280, 280), "white"))
    with pytest.raises(Problem, match="unknown shape 'star'.*ring"):
        points.shape("star")


def test_a_network_learns_where_the_ring_is_and_leaves_its_middle_free():
    events = list(points.train(points.from_picture(points.shape("ring")), steps=300, every=75, batch_size=128))
    first, last = events[0].exam, events[-1].exam
    assert last.right > first.right + 0.3 and last.losses[0] < first.losses[0] and last.promised and last.arrived
    assert len(last.losses) == live.LEVELS and len(events[-1].preview) == points.SHOWN
    ends = points.paths(events[-1].model, 200)[-1]
    assert (ends.norm(dim=1) < 0.4).float().mean() < 0.1  # the ring has radius 0.91


def test_the_page_draws_the_way_and_the_field_and_says_what_they_are():
    from demos.diffusion import points as section

    shown = section.plot(OnePoint(), 20, 0, True)
    assert shown.count('r="3"') == section.PATHS and shown.count("<polyline") == section.PATHS // 4 and shown.count("<line") == 17 * 17
    assert "step 20 of 40" in shown and "第 20 步" in shown and "nan" not in shown
    assert "<line" not in section.plot(OnePoint(), 0, 0, False)
    assert math.isclose(section.VIEW, points.VIEW) and tuple(section.SHAPES) == points.SHAPES


def test_a_run_on_an_empty_pad_does_not_begin_and_one_on_a_shape_has_a_name_of_its_own():
    from demos.diffusion import points as section

    with pytest.raises(Problem, match="nothing is drawn yet"):
        section.begin("owner", "", 400, 0)
    with pytest.raises(Problem, match="steps must be a number"):
        section.begin("owner", section.drawn("ring"), "<img>", 0)
    run = section.begin("owner of points", section.drawn("moons"), 200, 0)
    try:
        assert runs.snapshot(run).title == "diffusion-points" and runs.mine("owner of points", "diffusion") == ""
    finally:
        runs.stop(run, "owner of points")
        assert list(runs.follow(run))[-1].ended
