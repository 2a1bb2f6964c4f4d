"""A backend behind the filter, with nothing but Python: WECOM_BACKEND_SECRET=… python3 backend.py 8080"""

import hmac
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ.get("WECOM_BACKEND_SECRET") or sys.exit("WECOM_BACKEND_SECRET is not set")
CODES = {"sn-1001": "123456", "sn-1002": "654321"}  # serial number: the code that the user types
bound = set()  # in life, a table of the devices
answers = {}  # in life, a table whose unique key is the idempotency-key
lock = threading.Lock()


def bind(device, event):
    """The verdict on a bind: https://developer.work.weixin.qq.com/document/path/95987 has the codes."""
    if device not in CODES:
        return {"errcode": 7}
    if event["verif_code"] != CODES[device]:
        return {"errcode": 6}
    if device in bound:
        return {"errcode": 2}
    bound.add(device)
    return {"errcode": 0}


def answer(message):
    """What to answer to a callback; None says that it was taken."""
    device = message["base_info"].get("device_sn", "")
    event = message.get("event") or message["command"]
    match event.get("event_type") or event["command_type"]:
        case "bind":
            return bind(device, event)
        case "unbind":
            bound.discard(device)
        case "verify_device":
            return {"is_valid": True, "modelid": "2000000000000001"}
        case "user_scan":
            return {"online_status": 1}
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not hmac.compare_digest(self.headers.get("authorization", "").encode(), SECRET.encode()):
            self.reply(401, b'{"error":"not the filter"}')
            return
        key = self.headers.get("idempotency-key")
        try:
            with lock:  # of several requests with one key, the first decides
                said = answers.get(key) if key else None
                if said is None:
                    decided = answer(json.loads(body))
                    said = b"" if decided is None else json.dumps(decided).encode()
                    if key:
                        answers[key] = said
                    print("handled", self.headers.get("x-wecom-event"), key, flush=True)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.reply(400, b'{"error":"not a callback"}')
            return
        self.reply(200, said)

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))  # an empty body counts as an answer only with it
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
