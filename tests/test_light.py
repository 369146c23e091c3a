"""The page in a browser carries no weight that nobody needs; ?tab= opens a tab at once; it travels packed."""

import gzip
import urllib.request

from playwright.sync_api import expect

from demos import light, page

expect.set_options(timeout=60_000)
MADE = """() => {
  const held = window.gradio_config, placed = [], walk = (node) => { placed.push(node.id); (node.children ?? []).forEach(walk); };
  walk(held.layout);
  return {
    types: held.components.map(({type}) => type), ids: held.components.map(({id}) => id), placed: placed.slice(1),
    triggers: held.dependencies.flatMap(({targets}) => targets), named: held.dependencies.map(({api_name}) => api_name), plain: Object.getPrototypeOf(held.dependencies) === Array.prototype,
  };
}"""


def test_what_shows_no_progress_has_no_state_of_waiting_in_the_browser():
    built = page.build()
    sent = built.get_config_file()["dependencies"]
    quiet = [event["show_progress_on"] for event in sent if event["show_progress"] == "hidden"]
    assert len(quiet) > 100 and all(place == [] for place in quiet)
    assert any(event["show_progress_on"] is None for event in sent if event["show_progress"] == "full")  # a button that shows it still does


def test_the_tab_of_the_address_is_open_from_the_start_and_what_has_nothing_to_show_has_no_place(visit):
    opened = visit("/?tab=text")
    expect(opened.get_by_role("tab", name="Text", exact=True)).to_have_attribute("aria-selected", "true")
    expect(opened.locator("#text-result")).to_be_visible()
    assert opened.locator("#gan-result").count() == 0  # never built for nothing
    held = opened.evaluate(MADE)
    assert "api" not in held["types"] and sorted(held["ids"]) == sorted(held["placed"])
    assert {"gan_sample", "text_next", "train"} <= set(held["named"]) and all(component is not None for component, _ in held["triggers"])
    assert not held["plain"]
    opened.goto(opened.url.replace("tab=text", "tab=none"))
    expect(opened.get_by_role("tab", name="GAN digits")).to_have_attribute("aria-selected", "true")


def test_the_page_travels_packed_to_who_can_unpack_it(server):
    def ask(encodings):
        with urllib.request.urlopen(urllib.request.Request(server, headers={"Accept-Encoding": encodings})) as answer:
            return answer.headers["content-encoding"], answer.read()

    (packed, few), (plain, many) = ask("gzip, deflate, br"), ask("identity")
    assert packed == "gzip" and plain is None and len(few) < len(many) / 4
    assert light.SCRIPT.encode() in gzip.decompress(few) and light.SCRIPT.encode() in many
