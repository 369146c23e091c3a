"""The GAN family: its networks and losses, its training, its samples, and what is said when something is wrong."""

import math
import threading

import pytest
import torch
from PIL import ImageChops

from genkit import core, folders, gan
from genkit.core import Problem
from genkit.gan import evaluate, losses, quality, stacked
from genkit.gan.losses import loss_d, loss_g
from genkit.gan.model import DIGITS, GAN, labels
from genkit.gan.networks import ConvGenerator, Crowd, Dropout, StyleGenerator, StyleLayer


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


@pytest.fixture(scope="module", params=list(gan.VARIANTS))
def trained(request):
    """Each variant after two real steps, and the three events they gave."""
    events = list(gan.train(request.param, steps=2, every=1, batch_size=8))
    return request.param, events


def tiny():
    return core.build(lambda: GAN("dcgan", 8, 4), 0).eval()


def same(a, b, levels=0):
    return all(max(high for _, high in [ImageChops.difference(p, q).getextrema()]) <= levels for p, q in zip(a, b, strict=True))


def test_two_steps_give_events_0_to_2_with_finite_metrics_and_a_preview(trained):
    _, events = trained
    assert [(event.step, event.steps) for event in events] == [(0, 2), (1, 2), (2, 2)] and events[0].metrics == {}
    for event in events[1:]:
        assert set(event.metrics) == {"loss_d", "loss_g", "d_real", "d_fake", "d_right", "grad_g"} and all(map(math.isfinite, event.metrics.values()))
        assert all(0 <= event.metrics[name] <= 1 for name in ("d_real", "d_fake", "d_right")) and event.metrics["grad_g"] > 0
    assert all(len(event.preview) == 20 and event.preview[0].size == (28, 28) and event.preview[0].mode == "L" for event in events)


def test_the_networks_take_and_give_the_shapes_they_promise(trained):
    model = trained[1][-1].model
    z, y = torch.randn(5, model.latent_dim), torch.tensor([0, 1, 2, 3, 9])
    x = model.generator(z, y)
    assert x.shape == (5, 1, 28, 28) and x.abs().max() <= 1
    verdicts = model.discriminator(x, y)
    assert verdicts.shape == (5,)
    every_digit = model.discriminator(x, torch.arange(10).repeat(5, 1))
    assert every_digit.shape == (5, 10) and torch.allclose(every_digit[range(5), y], verdicts, atol=1e-5)


def test_the_digit_asked_for_changes_the_picture_unless_nobody_is_told(trained):
    model = trained[1][-1].model
    pictures = [next(gan.sample(model, digit, n=1, seed=3))[0] for digit in "17"]
    assert same(pictures[:1], pictures[1:]) != model.conditional
    x, y = torch.randn(3, 1, 28, 28), torch.arange(10).repeat(3, 1)
    assert (model.discriminator(x, y).std(dim=1) > 1e-6).any() == model.conditional


def test_training_moves_both_players_and_the_average():
    events = gan.train("dcgan", steps=2, every=2, batch_size=8)
    before = {name: value.clone() for name, value in next(events).model.state_dict().items()}
    after = next(events).model.state_dict()
    for player in ("generator", "discriminator"):
        assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith(player))


def test_losses_are_those_of_the_paper():
    zero = torch.zeros(4)
    assert loss_d(zero, zero, zero).item() == pytest.approx(2 * math.log(2))  # D says 1/2 everywhere: equation 4 ends at log 4
    assert loss_g(zero).item() == pytest.approx(math.log(2))
    sure = torch.full((4,), 30.0)
    assert loss_d(sure, -sure, -sure).item() == pytest.approx(0, abs=1e-6)
    losing = torch.full((4,), -30.0, requires_grad=True)
    loss_g(losing).backward()
    assert losing.grad.sum().item() == pytest.approx(-1)  # the gradient does not vanish while D wins


def test_dropout_draws_from_the_generator_it_is_given_and_keeps_the_mean():
    layer, x = Dropout(0.3), torch.ones(100, 100)
    assert torch.equal(layer(x, None), x)
    dropped = layer(x, core.seeded(1))
    assert torch.equal(dropped, layer(x, core.seeded(1))) and dropped.mean() == pytest.approx(1, abs=0.02)
    assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("variant", gan.VARIANTS)
def test_a_resumed_run_equals_an_unbroken_one(variant, tmp_path):
    options = dict(steps=4, every=2, batch_size=8, seed=5)
    unbroken = list(gan.train(variant, **options))[-1]
    for event in gan.train(variant, checkpoint=tmp_path, **options):
        if event.step == 2:
            break
    resumed = list(gan.train(variant, checkpoint=tmp_path, **options))
    assert [event.step for event in resumed] == [2, 4]
    expected, found = unbroken.model.state_dict(), resumed[-1].model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected) and resumed[-1].metrics == unbroken.metrics


def test_stopping_early_keeps_the_model(tmp_path):
    run = gan.train("mlp", steps=100, every=1, batch_size=8)
    for event in run:
        if event.step == 2:
            break
    run.close()
    shown = next(gan.sample(event.model, seed=0))
    assert same(shown, event.preview)
    gan.save(event.model, tmp_path / "stopped")
    assert same(next(gan.sample(gan.load(tmp_path / "stopped"), seed=0)), shown)


def test_training_touches_neither_the_grad_mode_nor_the_global_random_state():
    state = torch.get_rng_state()
    for _ in gan.train("mlp", steps=2, every=1, batch_size=8):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    with torch.no_grad():
        metrics = [event.metrics for event in gan.train("mlp", steps=1, batch_size=8)]
        assert not torch.is_grad_enabled() and metrics[-1]["loss_d"] > 0
    assert torch.equal(state, torch.get_rng_state())


def test_a_request_is_drawn_alone_or_in_company_the_same():
    model = tiny()
    requests = [("7", 3, 1), (DIGITS, 11, 2), ("0 1,2", 5, 1)]
    for request, drawn in zip(requests, gan.sample_many(model, requests), strict=True):
        digits, n, seed = request
        assert len(drawn) == n and same(drawn, next(gan.sample(model, digits, n=n, seed=seed)), levels=1)


def test_fewer_pictures_of_a_seed_are_the_first_of_more():
    model = tiny()
    assert same(next(gan.sample(model, n=5, seed=8)), next(gan.sample(model, n=20, seed=8))[:5], levels=1)
    assert not same(next(gan.sample(model, n=5, seed=8)), next(gan.sample(model, n=5, seed=9)))


def test_the_same_seed_gives_the_same_digits_in_two_threads_at_once():
    model, drawn = tiny(), {}

    def draw(name):
        drawn[name] = [next(gan.sample(model, n=10, seed=seed)) for seed in range(10)]

    threads = [threading.Thread(target=draw, args=(name,)) for name in "ab"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(same(a, b) for a, b in zip(drawn["a"], drawn["b"], strict=True))


def test_the_pictures_cycle_through_the_digits():
    assert labels("12 3", 5).tolist() == [1, 2, 3, 1, 2] and labels("７，8", 2).tolist() == [7, 8]  # as a Chinese keyboard writes them


@pytest.mark.parametrize("digits", ["", " ", "x", "12a", "-1", None])
def test_what_is_not_a_digit_is_a_problem_that_shows_it(digits):
    with pytest.raises(Problem, match="digits must be some of 0123456789, got"):
        labels(digits, 4)


def test_an_unknown_variant_lists_the_choices():
    for ask in (gan.load, lambda name: next(gan.train(name))):
        with pytest.raises(Problem, match="unknown GAN variant 'dcgna'; choose one of: dcgan, unconditional") as problem:
            ask("dcgna")
        assert "可选：dcgan, unconditional" in problem.value.zh


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_or_truncated_file_is_named_with_the_remedy(name, tmp_path):
    gan.save(tiny(), tmp_path / "mine")
    file = tmp_path / "mine" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Problem, match=f"{name} is damaged .*train it again"):
        gan.load(tmp_path / "mine")
    file.unlink()
    with pytest.raises(Problem, match=f"{name} is missing; restore"):
        gan.load(tmp_path / "mine")


def test_weights_of_another_network_are_refused(tmp_path):
    gan.save(tiny(), tmp_path / "a")
    gan.save(core.build(lambda: GAN("mlp", 8, 4), 0), tmp_path / "b")
    (tmp_path / "a" / "config.json").write_text((tmp_path / "b" / "config.json").read_text())
    with pytest.raises(Problem, match="model.safetensors belongs to another network"):
        gan.load(tmp_path / "a")


def test_others_open_what_is_saved(tmp_path):
    model = tiny()
    gan.save(model, tmp_path / "mine")
    theirs = GAN.from_pretrained(tmp_path / "mine").eval()
    assert sorted(file.name for file in (tmp_path / "mine").iterdir()) == ["config.json", "model.safetensors"]
    assert same(next(gan.sample(theirs, seed=1)), next(gan.sample(model, seed=1)))


@pytest.mark.parametrize("words", ["errno", "safetensors"])
def test_a_full_disk_is_a_problem_and_leaves_the_old_folder_whole(words, tmp_path, monkeypatch):
    import safetensors
    import safetensors.torch

    model = tiny()
    gan.save(model, tmp_path / "mine")

    def full(model, file):
        with open(file, "wb") as half:
            half.write(b"half")
        raise OSError(28, "No space left on device") if words == "errno" else safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_model", full)
    for place in ("mine", "new"):
        with pytest.raises(Problem, match=f"the disk is full: .*{place} was not saved"):
            gan.save(model, tmp_path / place)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and gan.load(tmp_path / "mine")


def test_a_failure_that_no_person_can_mend_keeps_its_own_name(tmp_path):
    with pytest.raises(ZeroDivisionError), folders.written(tmp_path / "x") as folder:
        assert folder.is_dir() and 1 / 0
    assert not any(tmp_path.iterdir())


def test_the_module_is_light_and_the_classifier_report_runs_alone():
    import subprocess
    import sys

    code = "import sys, genkit.gan, genkit.vae; assert 'torch' not in sys.modules; assert genkit.gan.VARIANTS and genkit.vae.PRETRAINED"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("variant", gan.VARIANTS)
def test_the_shipped_model_draws_the_digit_that_is_asked_for(variant):
    model = gan.load(variant)
    right, counts = evaluate.asked_for(model, n=500)
    assert (counts > 0).all() and (right >= FLOOR[variant] if model.conditional else right < 0.2)


FLOOR = {"mlp": 0.85, "dcgan": 0.98, "wgan-gp": 0.93, "style": 0.97, "student": 0.97}  # of 500; evaluate prints the figures of 10,000


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_every_loss_of_g_pushes_the_verdict_up_and_that_of_d_parts_real_from_fake(kind):
    fake, real = torch.zeros(8, requires_grad=True), torch.zeros(8, requires_grad=True)
    loss_g(fake, kind).backward()
    assert (fake.grad < 0).all()
    fake.grad = None
    loss_d(real, fake, fake, kind=kind).backward()
    assert (real.grad < 0).all() and (fake.grad >= 0).all() and (kind == "least-squares" or (fake.grad > 0).all())


def test_the_minimax_gradient_vanishes_where_the_non_saturating_one_does_not():
    slopes = {}
    for kind in ("minimax", "non-saturating"):
        losing = torch.full((1,), -12.0, requires_grad=True)
        loss_g(losing, kind).backward()
        slopes[kind] = abs(losing.grad.item())
    assert slopes["minimax"] < 1e-4 and slopes["non-saturating"] > 0.99


def test_smoothing_moves_the_best_answer_of_d_from_certain_to_90_percent():
    sure, ninety = torch.tensor([20.0]), torch.tensor([math.log(9)])
    none = torch.tensor([-50.0])
    assert loss_d(sure, none, none) < loss_d(ninety, none, none)
    assert loss_d(ninety, none, none, smoothing=0.1) < loss_d(sure, none, none, smoothing=0.1)


def test_a_critic_of_slope_one_has_no_gradient_penalty_and_one_of_slope_three_has_40():
    direction = torch.zeros(1, 28, 28)
    direction[0, 3, 5] = 1.0
    x = torch.randn(6, 1, 28, 28)
    for slope, penalty in ((1, 0), (3, 40)):
        found = losses.gradient_penalty(lambda x, slope=slope: slope * (x * direction).flatten(1).sum(dim=1), x, -x, core.seeded(0))
        assert found.item() == pytest.approx(penalty, abs=1e-4)
    assert losses.r1_penalty(lambda x: 3 * (x * direction).flatten(1).sum(dim=1), x, x, core.seeded(0)).item() == pytest.approx(0.45)


def test_a_style_layer_scales_the_convolution_as_modulated_weights_would():
    layer = core.build(lambda: StyleLayer(5, 4, 3, 7), 0)
    x, w = torch.randn(2, 4, 7, 7), torch.randn(2, 5)
    for i in range(2):
        weight = layer.weight * layer.style(w[i])[:, None, None]  # StyleGAN2, equations 1 and 3
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        plain = torch.nn.functional.leaky_relu(torch.nn.functional.conv2d(x[i : i + 1], weight, padding=1), 0.2) * math.sqrt(2)
        assert torch.allclose(layer(x[i : i + 1], w[i : i + 1], None), plain, atol=1e-5)


def test_the_style_of_each_layer_counts_and_the_mean_style_of_a_digit_is_learnt():
    generator = core.build(lambda: StyleGenerator(8, 4, True), 0)
    z, y = torch.randn(6, 8), torch.tensor([0, 0, 0, 1, 1, 1])
    generator.train().mapping(z, y)
    assert (generator.w_mean[:2] != 0).any(dim=1).all() and (generator.w_mean[2:] == 0).all()
    ws = generator.eval().mapping(z, y).unsqueeze(1).repeat(1, generator.LAYERS, 1)
    plain = generator.synthesis(ws)
    assert torch.equal(plain, generator(z, y))
    for layer in range(generator.LAYERS):
        other = ws.clone()
        other[0, layer] = ws[5, layer]
        changed = generator.synthesis(other)
        assert not torch.allclose(changed[0], plain[0]) and torch.equal(changed[1:], plain[1:])


def test_a_crowd_of_equal_pictures_can_be_told_from_a_varied_one():
    crowd = Crowd(3)
    torch.nn.init.ones_(crowd.weight.weight)
    h = torch.cat([torch.ones(4, 3), torch.randn(4, 3)])
    said = crowd(h, 2)
    assert said[:4].abs().max() < 1e-3 and (said[4:] > 0.5).all() and crowd(h, 0) == 0.0


def test_the_players_learn_one_at_a_time_when_asked_to():
    for players, still in (("d", "generator"), ("g", "discriminator")):
        control = core.Control(gan.Rules(players=players))
        events = gan.train("mlp", steps=2, batch_size=8, seed=3, control=control)
        before = {name: value.clone() for name, value in next(events).model.state_dict().items()}
        after = next(events).model.state_dict()
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed and still not in changed


def test_every_step_is_reported_while_the_game_is_played_step_by_step():
    control = core.Control(gan.Rules(single=True))
    events = gan.train("mlp", steps=30, every=10, batch_size=8, control=control)
    assert [next(events).step for _ in range(3)] == [0, 1, 2]
    control.change(single=False)
    assert [event.step for event in events] == [10, 20, 30]


def test_rules_that_change_on_the_way_count_from_the_next_step():
    control = core.Control(gan.Rules())
    events = gan.train("dcgan", steps=3, every=1, batch_size=8, control=control)
    next(events), next(events)
    control.change(loss="wasserstein", penalty="gradient", d_steps=2, crowd=True, smoothing=0.1)
    assert [math.isfinite(event.metrics["loss_d"]) for event in events] == [True, True]


@pytest.mark.parametrize("optimizer", gan.OPTIMIZERS)
def test_every_optimizer_and_latent_size_trains(optimizer):
    *_, last = gan.train("mlp", steps=1, batch_size=4, optimizer=optimizer, latent_dim=2)
    assert last.model.latent_dim == 2 and math.isfinite(last.metrics["loss_g"])


def test_an_unknown_optimizer_is_a_problem():
    with pytest.raises(Problem, match="unknown optimizer 'magic'; choose one of: adam"):
        next(gan.train("mlp", optimizer="magic"))


def test_examinations_come_when_asked_for_and_say_what_was_made():
    exams = [event.exam for event in gan.train("mlp", steps=4, every=1, batch_size=8, exams=2)]
    assert [exam.step for exam in exams] == [0, 0, 2, 2, 4]
    assert sum(exams[-1].counts) == 200 and exams[-1].frechet > 5 * exams[-1].floor and exams[-1].metrics["loss_d"] > 0
    assert all(event.exam is None for event in gan.train("mlp", steps=1, batch_size=8))


def test_the_examination_of_real_digits_finds_nothing_wrong(monkeypatch):
    x, y, _ = quality.real("train", 200)
    monkeypatch.setattr(quality, "draw", lambda model, n, seed=0: (x, y))
    exam = quality.examine(tiny(), 7, {})
    assert exam.right > 0.97 and exam.covered == 10 and exam.frechet == pytest.approx(exam.floor) and exam.entropy > 2.2
    assert exam.variety == pytest.approx(1, abs=0.1) and exam.roughness == pytest.approx(1) and exam.precision > 0.7


def test_a_generator_that_has_left_the_numbers_can_still_be_examined():
    model = tiny()
    torch.nn.init.constant_(model.generator.project.weight, math.nan)
    exam = quality.examine(model, 7, {})
    assert exam.covered == 1 and exam.right == pytest.approx(0.1) and math.isfinite(exam.frechet)


def test_the_frechet_distance_is_that_of_the_formula():
    a = torch.randn(4000, 3, generator=core.seeded(0))
    assert quality.frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert quality.frechet(a, a + torch.tensor([3.0, 0, 4.0])) == pytest.approx(25, rel=1e-3)
    assert quality.frechet(a, 3 * a) == pytest.approx((2 * a.mean(0)).square().sum().item() + 4 * a.var(0).sum().item(), rel=1e-3)


def test_precision_and_recall_tell_a_narrow_set_from_a_foreign_one():
    real = torch.randn(500, 2, generator=core.seeded(0))
    precision, recall = quality.precision_recall(real, real[:250] * 0.1)
    assert precision > 0.95 and recall < 0.3
    assert quality.precision_recall(real, real + 100) == (0, 0)


def test_a_promise_counts_training_seconds_only_and_dies_with_the_rules_it_was_made_under(monkeypatch):
    from genkit import stopwatch
    from genkit.gan.doctor import Exam

    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    watch, exam = stopwatch.Stopwatch(100), Exam(0, 0.95, (20,) * 10, 1, 1, 1, 1, 1, 1, {})

    def play(steps):
        watch.go()
        for _ in range(steps):
            now[0] += 0.5
            watch.step(True)
        watch.rest()

    play(10)
    now[0] += 1000  # a pause
    play(50)
    told = watch.told(exam, False)
    assert (told.seconds, told.promised, told.arrived) == (30, 50, None)
    play(10)
    assert watch.told(exam, True).arrived == 35
    watch.step(False)
    assert watch.told(exam, True).promised is None


def test_stacked_digits_have_three_colours_and_real_ones_show_hundreds_of_modes():
    from genkit import digits

    x, _ = digits.digits("train")
    pictures, _ = stacked.deal(x, 1000, core.seeded(0))
    assert pictures.shape == (1000, 3, 28, 28)

    class Real(ConvGenerator):
        def forward(self, z, y, rng=None):
            return pictures[: len(z)]

    assert 550 < stacked.modes(Real(64, 4, False, colours=3), n=1000) < 700  # 1,000 draws of 1,000 kinds: 632 expected
    step, generator = next(stacked.train("wgan-gp", steps=1))
    assert step == 1 and 1 <= stacked.modes(generator, n=1000) <= 1000
