"""The Generative Model Gallery: `python app.py` opens the page at http://127.0.0.1:7860."""

import argparse
import contextlib
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing leaves the machine unasked
# several visitors compute at once: jobs that each spread over all cores wait for one another most of the time
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  on ZeroGPU it must come before torch; elsewhere it does nothing

import gradio as gr
from starlette.middleware import Middleware

from demos import answer, head, i18n, light, page, sessions, streams
from demos.theme import CSS, theme
from genkit import core, diffusion, models, text


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--host", default="0.0.0.0" if os.getenv("SPACE_ID") else "127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=7860, help="first port to try; if it is taken, the next free one is used and printed")
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio.live")
    parser.add_argument("--auth", metavar="USER:PASSWORD", default=None, help="ask visitors for this name and password")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where models run")
    parser.add_argument("--lang", choices=("auto", "en", "zh"), default="auto", help="language of a first visit; auto: the browser's")
    parser.add_argument("--max-models", type=int, default=12, help="models kept in memory; the least recently used goes first")
    parser.add_argument(
        "--allow-model", metavar="FAMILY=ID", action="append", default=[], help="add a Hugging Face model to the catalogue, e.g. text=org/name; may be repeated"
    )
    parser.add_argument(
        "--text-endpoint", metavar="URL", default=None, help="a server that speaks OpenAI's protocol: its model joins the text tab; its key: GENKIT_TEXT_KEY"
    )
    parser.add_argument("--text-model", metavar="NAME", default=None, help="the name of the model on it")
    parser.add_argument(
        "--image-endpoint",
        metavar="URL",
        default=None,
        help="a server that draws: an Inference Endpoint, or, where the address ends in /v1, OpenAI's protocol; its key: GENKIT_IMAGE_KEY",
    )
    parser.add_argument(
        "--image-model", metavar="NAME", default=None, help="the name of the model on it; without an endpoint, of one of the Inference Providers"
    )
    return parser.parse_args(argv)


def configured(options: argparse.Namespace) -> gr.Blocks:
    """Apply the options and build the page. Raises Problem for a device that is not there or a malformed --allow-model, --text-endpoint or --image-endpoint."""
    core.set_device(options.device)
    models.configure(max_models=options.max_models)
    for allowed in options.allow_model:
        family, _, repo = allowed.rpartition("=")
        models.allow(family or "text", repo)
    if options.text_endpoint or options.text_model:
        endpoint = text.Endpoint(options.text_endpoint or "", options.text_model or "", os.environ.get("GENKIT_TEXT_KEY", ""))
        models.attach("text", endpoint.name, endpoint)
    if options.image_endpoint or options.image_model:
        painter = diffusion.Endpoint(options.image_endpoint or "", options.image_model or "", os.environ.get("GENKIT_IMAGE_KEY", ""))
        models.attach("diffusion", painter.name, painter)
    if options.auth and not all(options.auth.partition(":")):
        raise core.Problem("--auth must be USER:PASSWORD, got '{given}'", "--auth 的格式是 用户名:密码，收到的是“{given}”", given=options.auth)
    i18n.default_language = options.lang
    return page.build().queue(max_size=200, default_concurrency_limit=4)


def launch(demo: gr.Blocks, options: argparse.Namespace, **more):
    """Start the server. The page answers first; torch and the models are loaded by a background thread afterwards."""
    for port in range(options.port, options.port + 100):
        try:
            started = demo.launch(
                server_name=options.host,
                server_port=port,
                share=options.share,
                auth=tuple(options.auth.split(":", 1)) if options.auth else None,
                prevent_thread_lock=True,
                theme=theme,
                css_paths=[CSS],
                i18n=i18n.I18N,
                footer_links=["api", "settings"],
                run_history=False,
                max_file_size="20mb",
                state_session_capacity=1000,
                ssr_mode=False,
                # it has just waited for this page to answer, as long as that took; its second look gives up after 3 s, and a busy machine would not start
                _frontend=False,
                app_kwargs={
                    "middleware": [Middleware(head.First, html=head.OWN_PICTURES + i18n.snippet() + streams.SCRIPT + light.SCRIPT)],
                    "routes": [answer.ROUTE],
                },
                **more,
            )
            break
        except OSError as error:
            if port == options.port + 99 or "port" not in str(error):
                raise
    if options.share:
        demo.share = False  # the tunnel is up; from here the page's own files are served from this machine, not from a CDN
    sessions.describe_once(demo)
    page.warm_up_in_background()
    return started


def main() -> None:
    options = arguments()
    try:
        demo = configured(options)
    except core.Problem as problem:
        raise SystemExit(f"app.py: {problem}") from None
    launch(demo, options)
    demo.block_thread()


if __name__ == "__main__":
    main()
