"""Two languages: t() for component labels, both() inside HTML, say() for a sentence in the visitor's language.

The browser's language is settled before Gradio starts (SNIPPET, put first into the page): ?lang=, then the
visitor's last choice, then the browser's own. It is written back to the address, so every request carries it.
"""

import functools
import hashlib
import html
import inspect

import gradio as gr
from gradio.context import LocalContext

from genkit.core import Problem

I18N = gr.I18n(**{"en": {}, "zh-CN": {}, "zh-TW": {}})
default_language = "auto"  # app.py --lang


def t(en: str, zh: str):
    """A label in both languages for a component; the browser shows the visitor's."""
    key = "t" + hashlib.md5(en.encode()).hexdigest()  # the frontend cuts keys at braces and reads dots as paths
    I18N.translations["en"][key] = en
    I18N.translations["zh-CN"][key] = I18N.translations["zh-TW"][key] = zh
    return I18N(key)


def both(en: str, zh: str, tag: str = "span") -> str:
    """HTML with both sentences; the style sheet shows the one of the page's language. The sentences are HTML themselves."""
    return f'<{tag} lang="en">{en}</{tag}><{tag} lang="zh">{zh}</{tag}>'


def escape(text) -> str:
    """Any text as HTML that shows it literally. Lone surrogates, which no browser can be sent, become U+FFFD."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"))


def language() -> str:
    """ "en" or "zh": the language of the visitor whose request is being answered."""
    request = LocalContext.request.get(None)
    if request is None:
        return "zh" if default_language == "zh" else "en"
    accepted = request.headers.get("accept-language", "")
    asked = request.query_params.get("lang") or (accepted if default_language == "auto" else default_language)
    return "zh" if asked.lower().startswith("zh") else "en"


def say(en: str, zh: str) -> str:
    """The sentence in the visitor's language, for what Gradio cannot translate: toasts, errors, plain text values."""
    return zh if language() == "zh" else en


def told(handler):
    """The handler with every Problem shown to the visitor, in the visitor's language; other errors stay in the server's log."""

    def shown(problem: Problem):
        return gr.Error(say(problem.en, problem.zh), title=say("Please check", "请检查"), duration=12, print_exception=False)

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def wrapper(*args, **kwargs):
            try:
                yield from handler(*args, **kwargs)
            except Problem as problem:
                raise shown(problem) from problem

    elif inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def wrapper(*args, **kwargs):
            try:
                async for value in handler(*args, **kwargs):
                    yield value
            except Problem as problem:
                raise shown(problem) from problem

    else:

        @functools.wraps(handler)
        def wrapper(*args, **kwargs):
            try:
                return handler(*args, **kwargs)
            except Problem as problem:
                raise shown(problem) from problem

    return wrapper


SNIPPET = """<script>(() => {
  const url = new URL(location.href), asked = url.searchParams.get('lang'), first = '__DEFAULT__';
  let kept = null;
  try { if (asked) localStorage.setItem('genkit-lang', asked); kept = localStorage.getItem('genkit-lang'); } catch (e) {}
  const wish = asked || kept || (first === 'auto' ? navigator.language : first) || 'en';
  const lang = /^zh/i.test(wish) ? 'zh-CN' : 'en';
  Object.defineProperty(navigator, 'language', {configurable: true, get: () => lang});
  document.documentElement.lang = lang;
  if (asked !== lang.slice(0, 2)) { url.searchParams.set('lang', lang.slice(0, 2)); history.replaceState(null, '', url); }
})();</script>"""

SWITCH = """() => {
  const url = new URL(location.href), next = document.documentElement.lang.startsWith('zh') ? 'en' : 'zh';
  url.searchParams.set('lang', next); location.href = url;
}"""


def snippet() -> str:
    """SNIPPET for the host's default language."""
    return SNIPPET.replace("__DEFAULT__", default_language)
