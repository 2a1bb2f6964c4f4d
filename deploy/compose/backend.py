"""A stand-in backend for trying things out: `backend.py DECISION_PORT EVENTS_PORT`.

The first port decides about binds: a device whose serial is sn-refuse-CODE gets that errcode, any other is
bound. The second takes every other callback. Type and request id of each are printed.
"""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Decisions(BaseHTTPRequestHandler):
    timeout = 60

    def do_POST(self):
        message = self.rfile.read(int(self.headers.get("content-length", 0)))
        # Only the filter can send this header: Envoy takes it off everybody else's requests.
        if "x-wecom-event" not in self.headers:
            return self.answer(403, "not a callback")
        print(self.headers["x-wecom-event"], self.headers.get("x-wecom-req-id", "-"), flush=True)
        self.answer(200, self.decide(message))

    def decide(self, message):
        refused = re.search(rb'"sn-refuse-([0-9]{1,9})"', message)
        return '{"errcode":%d}' % (int(refused[1]) if refused else 0)

    def do_GET(self):
        self.answer(200, "hello from the backend")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Events(Decisions):
    def decide(self, message):
        return "success"


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections at once; by default 5


decisions, events = (int(port) for port in sys.argv[1:])
threading.Thread(target=Server(("", events), Events).serve_forever, daemon=True).start()
Server(("", decisions), Decisions).serve_forever()
