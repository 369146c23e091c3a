"""One stream of events a page, which lasts as long as somebody waits for it: put into the page before Gradio starts.

Gradio 6.31 reads what the server says of its events from GET /queue/data, and has two races, which a loaded server and a slow phone lose now and then.
The server closes the stream when nothing is left to tell, and an event that joins in that moment is never told of: a button that does nothing.
And two events at once may open two streams, whose messages overtake one another: of a view that is sent as differences some get lost.
So here fetch keeps account of who waits. A stream that closes too early is opened again, and a second one beside it stays empty.

A page that is left breaks off its own stream, takes that for a lost connection, and two seconds later reloads itself: where the next page has not come by then,
a click on a link or on the other language is undone. So a page that is being left hears nothing of whether the server is back.
"""

SCRIPT = """<script>(() => {
  const plain = window.fetch.bind(window), waiting = new Set(), early = new Set();
  let joining = 0, open = false, leaving = false;
  addEventListener('beforeunload', () => { leaving = true; setTimeout(() => { leaving = false; }, 60000); });
  const CLOSE = 'data: {"msg":"close_stream"}\\n\\n';

  const join = async (...call) => {
    joining++;
    try {
      const answer = await plain(...call), {event_id} = await answer.clone().json().catch(() => ({}));
      if (event_id && !early.delete(event_id)) waiting.add(event_id);
      return answer;
    } finally { joining--; }
  };
  const done = (id) => waiting.delete(id) || early.add(id);

  async function* messages(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const {done, value} = await reader.read();
      if (done) return;
      const parts = (rest + value).split('\\n\\n');
      rest = parts.pop();
      yield* parts;
    }
  }
  const pass = async (answer, out) => {
    for await (const message of messages(answer)) {
      const head = message.slice(0, 200);
      if (head.includes('close_stream')) return true;
      if (head.includes('process_completed')) done(JSON.parse(message.slice(5)).event_id);
      out.enqueue(new TextEncoder().encode(message + '\\n\\n'));
    }
    return false;
  };
  const told = async (request) => {
    const headers = {'Content-Type': 'text/event-stream'};
    if (open) return new Response('', {headers});
    open = true;
    let answer = await plain(request.clone()).catch((error) => { open = false; throw error; });
    if (!answer.ok) { open = false; return answer; }
    const start = async (out) => {
      try {
        while (await pass(answer, out) && (joining || waiting.size)) {
          answer = await plain(request.clone());
          if (!answer.ok) break;
        }
        out.enqueue(new TextEncoder().encode(CLOSE));
        out.close();
      } catch (error) {
        out.error(error);
      } finally { open = false; }
    };
    return new Response(new ReadableStream({start(out) { start(out); }}), {headers});
  };

  window.fetch = (input, options) => {
    const path = new URL(input.url ?? input, location.href).pathname;
    if (path.endsWith('/queue/join')) return join(input, options);
    if (path.endsWith('/queue/data')) return told(new Request(input, options));
    if (path.endsWith('/app_id') && leaving) return new Promise(() => {});
    if (path.endsWith('/cancel') && options?.body) done(JSON.parse(options.body).event_id);
    return plain(input, options);
  };
})();</script>"""
