"""The page in a real browser: every tab, both languages, a run that survives a reload, nobody else's Stop, nothing from elsewhere."""

import re
from urllib.parse import urlparse

import pytest
from playwright.sync_api import expect

from demos.diffusion.make import EXAMPLES
from genkit import labels

WORDS = {
    "en-US": {
        "gan": "Make digits",
        "vae": "Reconstruct",
        "diffusion": "Draw",
        "text": "Write on",
        "train": "Train it yourself",
        "begin": "Train from noise",
        "stop": "Stop",
    },
    "zh-CN": {"gan": "生成数字", "vae": "重建", "diffusion": "画图", "text": "续写", "train": "自己训练", "begin": "从零开始训练", "stop": "停止"},
}
MADE = {"en-US": "AI-generated", "zh-CN": "AI 生成"}
TABS = ("gan", "vae", "diffusion", "text")
LONG = 120_000  # ms: two slow cores that also wake up torch
expect.set_options(timeout=60_000)


def made(page, tab, locale):
    """The mark under the result of a tab, visible in the page's language."""
    return page.locator(f"#{tab}-result .made").get_by_text(MADE[locale])


@pytest.mark.parametrize("locale", WORDS)
def test_every_tab_opens_with_a_result_and_its_main_button_makes_another(visit, locale):
    page = visit(locale=locale)
    for place, tab in enumerate(TABS):
        page.get_by_role("tab").nth(place).click()
        expect(made(page, tab, locale)).to_be_visible(timeout=LONG)
        before = page.locator(f"#{tab}-result").inner_html()
        if tab in ("gan", "diffusion"):
            page.get_by_role("button", name="More" if locale == "en-US" else "更多").click()
            page.get_by_label("Seed" if locale == "en-US" else "随机种子").filter(visible=True).first.fill("12345")
        elif tab == "text":
            page.get_by_label("Your beginning" if locale == "en-US" else "您的开头").fill("JULIET:\n")
        else:
            page.get_by_role("button", name="Pick a test digit" if locale == "en-US" else "选一个测试数字").click()
        page.get_by_role("button", name=WORDS[locale][tab], exact=True).click()
        page.wait_for_function(
            "([id, before]) => { const now = document.querySelector(id); return now.innerHTML !== before && now.querySelector('.made'); }",
            arg=[f"#{tab}-result", before],
            timeout=LONG,
        )
        expect(made(page, tab, locale)).to_be_visible()


@pytest.mark.parametrize(
    "locale, sentence", [("en-US", "digits must be some of 0123456789, got 'a<b>c'"), ("zh-CN", "只能由 0123456789 组成，收到的是“a<b>c”")]
)
def test_what_is_no_digit_gets_a_clear_sentence_in_place_of_digits(visit, locale, sentence):
    page = visit("/?tab=gan", locale=locale)
    expect(made(page, "gan", locale)).to_be_visible(timeout=LONG)
    field = page.get_by_label("Digits to make" if locale == "en-US" else "要生成的数字")
    field.fill("a<b>c")
    page.get_by_role("button", name=WORDS[locale]["gan"], exact=True).click()
    expect(page.locator("#gan-result .warn").get_by_text(sentence)).to_be_visible()
    field.fill("42")
    field.press("Enter")
    expect(page.locator("#gan-result .wall a")).to_have_count(20)


def test_a_click_and_the_enter_key_download_the_png_of_a_digit_with_its_mark(visit, tmp_path):
    page = visit("/?tab=gan")
    expect(made(page, "gan", "en-US")).to_be_visible(timeout=LONG)
    for index, get in ((3, lambda link: link.click()), (8, lambda link: link.press("Enter"))):
        link = page.locator("#gan-result .wall a").nth(index)
        with page.expect_download() as coming:
            get(link)
        coming.value.save_as(tmp_path / "digit.png")
        mark = labels.read(tmp_path / "digit.png")
        assert coming.value.suggested_filename == f"{index}.png" and mark["seed"] == 7 and mark["settings"]["index"] == index
        assert link.evaluate("link => link.href === link.querySelector('img').src")


@pytest.mark.parametrize("locale", WORDS)
def test_no_tab_has_a_word_of_the_other_language_or_talks_to_a_foreign_host(visit, server, locale):
    page = visit(locale=locale)
    for name in page.get_by_role("tab").all():
        name.click()
        text = page.locator(".tabs").inner_text()
        if locale == "en-US":
            for prompt in EXAMPLES:  # one of them is Chinese
                text = text.replace(prompt, "")
            assert not re.search("[\u4e00-\u9fff]", text)
        else:
            assert not re.search("__i18n__|\\bt[0-9a-f]{32}\\b", text)
            assert len(re.findall("[\u4e00-\u9fff]", text)) > 60
    page.wait_for_load_state()
    assert visit.hosts - {""} == {urlparse(server).netloc}


def test_the_language_switch_lasts_over_a_reload(visit):
    page = visit(locale="en-US")
    page.get_by_role("button", name="中文 / EN").click()
    expect(page.get_by_role("heading", name="生成模型画廊")).to_be_visible()
    page.goto(page.url.split("?")[0])
    expect(page.get_by_role("tab", name="GAN 数字")).to_be_visible()


@pytest.mark.parametrize("locale", ["zh", "zh-HK", "zh-TW"])
def test_every_chinese_browser_gets_chinese(visit, locale):
    expect(visit(locale=locale).get_by_role("tab", name="GAN 数字")).to_be_visible()


def train_tab(page, tab, locale="en-US"):
    """Unfold the training panel of a tab that has settled; its status line."""
    expect(made(page, tab, locale)).to_be_visible(timeout=LONG)
    page.get_by_role("button", name=WORDS[locale]["train"]).click()
    return page.locator(".run [role=status]")


def test_two_clicks_on_train_start_one_run_that_is_there_again_after_a_reload_and_stops(visit):
    page = visit("/?tab=gan")
    state = train_tab(page, "gan")
    page.get_by_label("number input for Steps").fill("5000")
    page.get_by_role("button", name="Train from noise").dblclick()
    expect(state).to_contain_text(re.compile("training: step [1-9]"), timeout=LONG, use_inner_text=True)
    expect(state).to_have_count(1)
    assert page.locator(".toast-body").count() == 0
    page.reload()
    state = train_tab(page, "gan")
    expect(state).to_contain_text(re.compile("training: step [1-9]"), timeout=LONG, use_inner_text=True)
    expect(page.locator(".chart polyline").first).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(state).to_contain_text("stopped", timeout=LONG)
    expect(page.get_by_role("button", name="Train from noise")).to_be_enabled()
    assert page.locator(".toast-body").count() == 0


def test_a_second_screen_follows_a_run_but_only_its_owner_stops_it(visit):
    owner = visit("/?tab=vae")
    state = train_tab(owner, "vae")
    owner.get_by_label("number input for Steps").fill("5000")
    owner.get_by_role("button", name="Train from noise").click()
    expect(state).to_contain_text("training", timeout=LONG)
    owner.get_by_text("Follow this run on another screen").click()
    watching = visit("/" + owner.locator("details a").first.get_attribute("href"))
    seen = train_tab(watching, "vae")
    expect(seen).to_contain_text("training", timeout=LONG)
    expect(watching.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    device = visit("/" + owner.locator("details code").last.text_content())
    mine = train_tab(device, "vae")
    expect(mine).to_contain_text("training", timeout=LONG)
    device.get_by_role("button", name="Stop", exact=True).click()
    for told in (mine, state, seen):
        expect(told).to_contain_text("stopped", timeout=LONG)


def test_stopping_a_text_frees_its_place(visit):
    page = visit("/?tab=text")
    expect(made(page, "text", "en-US")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="More").click()
    page.get_by_label("number input for Length, tokens").fill("1000")
    page.get_by_role("button", name="Write on").click()
    expect(page.locator("#text-result .cursor")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#text-result .cursor")).to_have_count(0)
    expect(made(page, "text", "en-US")).to_be_visible()
    page.get_by_label("Your beginning").fill("JULIET:")
    page.get_by_label("number input for Length, tokens").fill("10")
    page.get_by_role("button", name="Write on").click()
    expect(page.locator("#text-result .yours")).to_have_text("JULIET:")
    expect(page.locator("#text-result .cursor")).to_have_count(0)


def test_a_drawing_by_hand_or_keyboard_is_reconstructed_while_it_is_drawn_and_cleared(visit):
    page = visit("/?tab=vae")
    expect(made(page, "vae", "en-US")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#vae-result .empty")).to_be_visible()
    canvas = page.locator("#vae-pad canvas")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 140, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 240, steps=10)
    expect(page.locator("#vae-result .plates")).to_be_visible(timeout=LONG)  # the pen is still down
    page.mouse.up()
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    expect(page.locator("#vae-result .warn")).to_contain_text("nothing is drawn yet")
    canvas.focus()
    page.keyboard.press(" ")
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#vae-result .plates")).to_be_visible(timeout=LONG)


def test_markup_in_a_prompt_is_shown_not_run(visit):
    page = visit("/?tab=text")
    expect(made(page, "text", "en-US")).to_be_visible(timeout=LONG)
    page.get_by_label("Your beginning").fill("<img src=x onerror=\"document.title='broken'\">")
    page.get_by_role("button", name="More").click()
    page.get_by_label("number input for Length, tokens").fill("10")
    page.get_by_role("button", name="Write on").click()
    expect(page.locator("#text-result .yours")).to_contain_text("<img src=x", timeout=LONG)
    expect(made(page, "text", "en-US")).to_be_visible(timeout=LONG)
    assert page.title() != "broken" and page.locator("#text-result img").count() == 0


def test_a_pretrained_model_shows_its_size_and_waits_for_a_click(visit):
    page = visit("/?tab=text")
    page.get_by_label("Model").first.click()
    page.get_by_role("option", name="smollm2", exact=True).click()
    expect(page.get_by_text(re.compile("Not on this machine yet"))).to_be_visible()
    expect(page.get_by_role("button", name="Download", exact=True)).to_be_visible()
    page.get_by_role("button", name="Download", exact=True).click()
    expect(page.locator(".toast-body")).to_contain_text(re.compile("offline|network|reach", re.I), timeout=LONG)
    page.get_by_role("button", name="Write on").click()
    expect(page.locator(".toast-body").last).to_contain_text(re.compile("smollm2", re.I), timeout=LONG)


@pytest.mark.parametrize("locale", WORDS)
def test_nothing_scrolls_sideways_on_a_phone_of_360_px(visit, locale):
    page = visit(locale=locale, width=360, height=740)
    for tab in page.get_by_role("tab").all():
        tab.click(force=True)
        page.wait_for_timeout(300)
        for fold in page.locator("button.label-wrap:not(.open)").all():
            if fold.is_visible():
                fold.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


# what axe finds on an empty Gradio page already, or in Gradio's own parts
BASELINE = {"color-contrast", "image-redundant-alt", "button-name", "aria-prohibited-attr"}


def test_axe_finds_nothing_serious_beyond_gradios_own_in_any_tab(visit):
    from axe_playwright_python.sync_playwright import Axe

    page = visit()
    for place, tab in enumerate(TABS):
        page.get_by_role("tab").nth(place).click()
        expect(made(page, tab, "en-US")).to_be_visible(timeout=LONG)
        found = [finding for finding in Axe().run(page).response["violations"] if finding["impact"] in ("serious", "critical")]
        assert {finding["id"]: [node["html"][:160] for node in finding["nodes"]] for finding in found if finding["id"] not in BASELINE} == {}, tab
        ours = [
            node["html"]
            for finding in found
            for node in finding["nodes"]
            if re.search('class="(wall|plate|made|note|opening|run|legend|pad|written)', node["html"])
        ]
        assert ours == [], tab
