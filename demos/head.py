"""What stands first in the page's <head>: scripts that must run before Gradio does. The page itself travels packed: it describes every component."""

import gzip

# a picture in a model's answer must not make a visitor's browser ask a stranger for it
OWN_PICTURES = (
    """<meta http-equiv="Content-Security-Policy" content="img-src 'self' data: blob:; media-src 'self' data: blob:; frame-src 'self'; object-src 'none'">"""
)


class First:
    """ASGI middleware: puts HTML first into the page's <head>. A head= of Gradio would run after its translations are set up."""

    def __init__(self, app, html: str):
        self.app, self.html = app, html.encode()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            return await self.app(scope, receive, send)
        start, body = None, b""

        async def rewrite(message):
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            headers = dict(start["headers"])
            if headers.get(b"content-type", b"").startswith(b"text/html"):
                body = body.replace(b"<head>", b"<head>" + self.html, 1)
                if b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b""):
                    body = gzip.compress(body, 4)
                    headers |= {b"content-encoding": b"gzip", b"vary": b"accept-encoding"}
                headers[b"content-length"] = str(len(body)).encode()
            await send({**start, "headers": list(headers.items())})
            await send({"type": "http.response.body", "body": body})

        # an encoded body could not be edited
        plain = {**scope, "headers": [(key, value) for key, value in scope["headers"] if key != b"accept-encoding"]}
        await self.app(plain, receive, rewrite)
