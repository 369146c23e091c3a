"""mini-sd-turbo: how a student learns to cross in one step what its teacher crosses in several, and what the shipped one draws."""

import dataclasses

import pytest
import torch
from PIL import Image

from demos.diffusion import make
from genkit import core, diffusion, emoji
from genkit.diffusion import copied, networks, turbo

ALPHAS = networks.scheduler().alphas_cumprod


@pytest.fixture(scope="module")
def pipe():
    return diffusion.load("mini-sd-turbo")


def test_where_picture_and_noise_stay_the_same_one_step_is_as_good_as_many():
    x0, noise, t = torch.randn(4, 4, 2, 2), torch.randn(4, 4, 2, 2), turbo.starts()

    def true(x, t):
        a, s = turbo.levels(t, ALPHAS)
        return a * noise - s * x0

    a, s = turbo.levels(t, ALPHAS)
    torch.testing.assert_close(turbo.crossing(true, a * x0 + s * noise, t, ALPHAS), true(None, t), atol=1e-3, rtol=1e-3)


def test_one_step_of_ddim_with_what_is_to_be_learnt_ends_where_the_steps_of_the_teacher_end():
    x, t = torch.randn(4, 4, 2, 2), turbo.starts()

    def teacher(x, t):
        return torch.sin(3 * x) + t.view(-1, 1, 1, 1) / 1000

    here, now = x, t
    for substep in range(1, turbo.SUBSTEPS + 1):
        following = t - 250 * substep // turbo.SUBSTEPS
        here, now = turbo.step(here, teacher(here, now), now, following, ALPHAS), following
    one = turbo.step(x, turbo.crossing(teacher, x, t, ALPHAS), t, t - 250, ALPHAS)
    torch.testing.assert_close(one, here, atol=1e-4, rtol=1e-4)


def test_the_scheduler_visits_the_levels_that_the_student_has_learnt_and_steps_as_it_has(pipe):
    ddim = turbo.scheduler()
    ddim.set_timesteps(turbo.PIECES)
    assert ddim.timesteps.tolist() == turbo.starts().tolist() == [999, 749, 499, 249]
    pipe.scheduler.set_timesteps(turbo.PIECES)
    assert pipe.scheduler.timesteps.tolist() == ddim.timesteps.tolist()
    x, v = torch.randn(2, 1, 4, 2, 2)
    for t in (749, 249):
        mine = turbo.step(x, v, torch.tensor([t]), torch.tensor([t - 250]), ALPHAS)
        torch.testing.assert_close(ddim.step(v, t, x).prev_sample, mine, atol=1e-5, rtol=1e-4)


def test_a_saved_model_does_not_tell_where_on_the_machine_its_parts_came_from(pipe, tmp_path):
    diffusion.save(pipe, tmp_path / "again")
    told = [file.read_text() for folder in (tmp_path / "again", core.WEIGHTS / "diffusion") for file in folder.rglob("*.json")]
    assert len(told) > 12 and not [text for text in told if str(core.WEIGHTS.parent) in text or "_name_or_path" in text]
    assert diffusion.load(tmp_path / "again").unet.config.sample_size == pipe.unet.config.sample_size


def test_guidance_goes_beyond_what_is_told_from_what_is_not():
    class Echo:
        def __call__(self, x, t, features):
            return type("Out", (), {"sample": features[:, :1, :1, None].expand(-1, 1, 1, 1)})

    x, t = torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    told, nothing = torch.full((2, 3, 5), 2.0), torch.ones(1, 3, 5)
    assert [turbo.guided(Echo(), x, t, told, nothing, guidance).unique().item() for guidance in (0, 1, 4)] == [1, 2, 5]


def test_a_training_run_of_one_step_draws_in_four_and_moves_the_student_away_from_its_teacher(monkeypatch):
    monkeypatch.setitem(diffusion.VARIANTS, "mini-sd-turbo", dataclasses.replace(diffusion.VARIANTS["mini-sd-turbo"], pictures=8))
    monkeypatch.setattr(emoji, "Emoji", lambda **_: copied.shipped().art)
    first, last = diffusion.train("mini-sd-turbo", steps=1, batch_size=4)
    assert (first.step, last.step, last.steps) == (0, 1, 1) and last.metrics["loss"] > 0
    assert all(isinstance(picture, Image.Image) and picture.size == (64, 64) for picture in last.preview)
    teacher = diffusion.load("mini-sd").unet.state_dict()
    moved = [name for name, weight in last.model.unet.state_dict().items() if not torch.equal(weight.cpu(), teacher[name].cpu())]
    assert moved and last.model.scheduler.config.timestep_spacing == "trailing"


def test_it_draws_in_four_steps_without_guidance_unless_told_otherwise_and_only_in_its_own_way(pipe):
    *_, step = diffusion.sample(pipe, "a cat", num_inference_steps=4, guidance_scale=9)
    again = list(diffusion.sample(pipe, "a cat", num_inference_steps=4))[-1]
    assert step.image.tobytes() == again.image.tobytes(), "guidance is off whatever is asked"
    steps, guidance, *_, scheduler, why = make.settle("mini-sd-turbo")
    assert steps == 4 and guidance.value == 0 and not guidance.interactive and not scheduler["interactive"]
    assert "without guidance" in why.value and "own scheduler" in why.value


def test_the_shipped_one_draws_what_was_asked_for_in_four_steps(pipe):
    from genkit import images
    from genkit.diffusion import detector

    wanted = ["apple", "heart", "house", "star", "rocket", "panda", "car", "sun", "ghost", "banana"]
    noise = [core.seeded(i) for i in range(len(wanted))]
    drawn = pipe([f"a {name} on a blue background" for name in wanted], num_inference_steps=4, guidance_scale=0.0, generator=noise).images
    x = images.from_pil(drawn)
    seen = [detector.THINGS[i] for i in detector.things(detector.load(), x).tolist()]
    assert sum(thing == name for thing, name in zip(seen, wanted, strict=True)) >= 6, seen
    assert [detector.BACKGROUNDS[i] for i in detector.backgrounds(x).tolist()].count("blue") >= 8
