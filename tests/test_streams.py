"""The stream of events of a page, with a server that loses both of Gradio's races every time."""

import pytest

from demos.streams import SCRIPT

SERVER = """<script>
  const said = (message) => new TextEncoder().encode(`data: ${JSON.stringify(message)}\\n\\n`);
  window.opened = 0;
  window.steps = [];                     // what each stream of the server does, one after the other
  window.fetch = async (input, options) => {
    const path = new URL(input.url ?? input, 'http://x/').pathname;
    if (path.endsWith('/queue/join')) { await window.joined; return Response.json({event_id: options.body}); }
    if (!path.endsWith('/queue/data')) return new Response('other');
    const step = window.steps[window.opened++];
    return new Response(new ReadableStream({async start(out) { await step((message) => out.enqueue(said(message))); out.close(); }}));
  };
</script>"""
READ = """
  const read = async (response, heard = []) => {
    const text = await response.text();
    return [...heard, ...text.split('\\n\\n').filter(Boolean).map((line) => JSON.parse(line.slice(5)))].map(({msg, event_id}) => msg + ' ' + (event_id ?? ''));
  };
  const data = () => fetch('http://x/queue/data?session_hash=s').then(read), join = (id) => fetch('http://x/queue/join', {method: 'POST', body: id});
"""


@pytest.fixture
def heard(browser):
    """heard(script): what a script returns in a page whose fetch is our own on top of that server."""
    page = browser.new_page()
    page.set_content(f"<head>{SERVER}{SCRIPT}</head>")
    yield lambda script: page.evaluate(f"async () => {{ {READ} {script} }}")
    page.close()


def test_who_joins_while_the_server_closes_the_stream_is_told_all_the_same(heard):
    assert heard("""
      let go; window.joined = new Promise((resolve) => { go = resolve; });
      window.steps = [
        async (say) => { say({msg: 'process_completed', event_id: 'a'}); say({msg: 'close_stream'}); },
        async (say) => { await b; say({msg: 'process_completed', event_id: 'b'}); say({msg: 'close_stream'}); },
      ];
      const b = join('b'), told = data();
      setTimeout(go, 50);
      await b;
      return [await told, window.opened];
    """) == [["process_completed a", "process_completed b", "close_stream "], 2]


def test_who_has_joined_and_is_not_done_keeps_the_stream_open(heard):
    assert heard("""
      await join('a'); await join('b');
      window.steps = [
        async (say) => { say({msg: 'process_completed', event_id: 'a'}); say({msg: 'close_stream'}); },
        async (say) => { say({msg: 'process_generating', event_id: 'b'}); say({msg: 'process_completed', event_id: 'b'}); say({msg: 'close_stream'}); },
      ];
      return await data();
    """) == ["process_completed a", "process_generating b", "process_completed b", "close_stream "]


def test_a_second_stream_stays_empty_so_that_no_message_overtakes_another(heard):
    assert heard("""
      await join('a');
      window.steps = [async (say) => {
        say({msg: 'process_generating', event_id: 'a'});
        await new Promise((resolve) => setTimeout(resolve, 50));
        say({msg: 'process_completed', event_id: 'a'}); say({msg: 'close_stream'});
      }];
      return [...await Promise.all([data(), data()]), window.opened];
    """) == [["process_generating a", "process_completed a", "close_stream "], [], 1]


def test_a_stream_that_nobody_waits_for_closes_and_the_next_one_opens(heard):
    assert (
        heard("""
      await join('a');
      window.steps = Array(2).fill(async (say) => { say({msg: 'process_completed', event_id: 'a'}); say({msg: 'close_stream'}); });
      return [await data(), await data()];
    """)
        == [["process_completed a", "close_stream "]] * 2
    )


def test_a_cancelled_event_keeps_nothing_open(heard):
    assert heard("""
      await join('a'); await join('b');
      await fetch('http://x/cancel', {method: 'POST', body: JSON.stringify({event_id: 'b'})});
      window.steps = [async (say) => { say({msg: 'process_completed', event_id: 'a'}); say({msg: 'close_stream'}); }];
      return await data();
    """) == ["process_completed a", "close_stream "]


def test_a_connection_that_breaks_is_told_as_closed_so_that_the_next_event_opens_another(heard):
    assert heard("""
      await join('a');
      window.steps = [async (say) => { say({msg: 'process_generating', event_id: 'a'}); }];
      return await data();
    """) == ["process_generating a", "close_stream "]


def test_everything_else_is_fetched_as_ever(heard):
    assert heard("return await (await fetch('http://x/config')).text();") == "other"


def test_a_page_that_is_being_left_does_not_reload_itself_because_the_server_is_back(heard):
    assert heard("""
      const back = () => Promise.race([fetch('http://x/app_id').then((answer) => answer.text()), new Promise((done) => setTimeout(done, 100, 'waits'))]);
      const before = await back();
      dispatchEvent(new Event('beforeunload'));
      return [before, await back()];
    """) == ["other", "waits"]
