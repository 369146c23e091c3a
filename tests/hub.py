"""A web server on this machine that stands in for the Hub; what it answers is the handler's."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves from the moment it is made, at `url`."""

    daemon_threads = True

    def __init__(self, handler: type):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class Quiet(BaseHTTPRequestHandler):
    """A handler that writes no log and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass
