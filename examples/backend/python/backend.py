"""A backend behind the filter, with nothing but Python: WECOM_BACKEND_SECRET=… python3 backend.py 8080"""

import hashlib
import hmac
import json
import logging
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ.get("WECOM_BACKEND_SECRET") or sys.exit("WECOM_BACKEND_SECRET is not set")
LARGEST = 65_536  # bytes of a body, as in the filter's max_body_bytes
CODES = {"sn-1001": "123456", "sn-1002": "654321"}  # serial number: the code that the user types
MD5S = {hashlib.md5(device.encode()).hexdigest() for device in CODES}
bound = set()  # in life, a table of the devices
answers = {}  # only ever grows; in life, a table with a unique key on both ids, whose rows go after dedup.ttl_seconds
lock = threading.Lock()  # guards both


def verdict(device, code):
    """The verdict on a bind: https://developer.work.weixin.qq.com/document/path/95987 has the codes."""
    if device not in CODES:
        return 7
    if code != CODES[device]:
        return 6
    if device in bound:
        return 2
    bound.add(device)
    return 0


def answer(event, message):
    """What to answer to a callback: "" says that it was taken, None that its type is not known."""
    device = message["base_info"].get("device_sn", "")
    match event:
        case "bind":
            return json.dumps({"errcode": verdict(device, message["event"]["verif_code"])})
        case "verify_device":
            is_ours = message["event"]["device_sn_md5"].lower() in MD5S
            return json.dumps({"is_valid": True, "modelid": "2000000000000001"} if is_ours else {"is_valid": False})
        case "user_scan":
            return json.dumps({"online_status": 1 if device in CODES else 2})
        case "unbind":
            bound.discard(device)
            return ""
        case (
            "contact_change" | "model_ticket" | "update_firmware" | "fetch_device_status" | "enter_page" | "exit_page"
            | "remote_open_door" | "delete_bio_info" | "printer_job_submit" | "printer_job_trans" | "printer_job_del"
        ):
            return ""
    return None


def answer_once(receive_id, key, event, message):
    """The stored answer if there is one. Of several requests with one key the first decides, and the others wait."""
    with lock:
        said = answers.get((receive_id, key))
        if said is None:
            said = answer(event, message)
            print("unknown" if said is None else "handled", event, key, flush=True)
            if key and said is not None:
                answers[receive_id, key] = said
        return said


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self.close_connection = True  # what follows is not read
            return self.reply(413 if length else 411, '{"error":"too large, or no length"}')
        body = self.rfile.read(int(length))
        if not hmac.compare_digest(self.headers.get("authorization", "").encode(), SECRET.encode()):
            return self.reply(401, '{"error":"not the filter"}')
        names = ("x-wecom-receive-id", "idempotency-key", "x-wecom-event")
        try:
            said = answer_once(*(self.headers.get(name, "") for name in names), json.loads(body))
        except Exception:
            logging.exception("failed")
            return self.reply(500, '{"error":"failed"}')
        if said is None:
            return self.reply(501, '{"error":"not a type that is known"}')
        return self.reply(200, said)

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))  # an empty body counts as an answer only with it
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections at once; by default 5


if __name__ == "__main__":
    # Or a private address: nobody but the filter may reach it.
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
