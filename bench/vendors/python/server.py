"""A vendor's own server for WeCom's callbacks, in Python: PyPI's wechatpy, urllib3 for the decision, and
gunicorn with one worker and eight threads around it, without a framework. `make bench` measures it, behind
Envoy, against the filter.

Environment: UPSTREAM (the URL that decides), WECOM_TOKEN, WECOM_ENCODING_AES_KEY, WECOM_RECEIVE_ID.
"""

import json
import os
import secrets
import time
from urllib.parse import parse_qs

import urllib3
from wechatpy.enterprise.crypto import PrpCrypto, WeChatCrypto
from wechatpy.enterprise.exceptions import InvalidCorpIdException
from wechatpy.exceptions import InvalidSignatureException
from wechatpy.utils import WeChatSigner

UPSTREAM = os.environ["UPSTREAM"]
TOKEN = os.environ["WECOM_TOKEN"]
RECEIVE_ID = os.environ["WECOM_RECEIVE_ID"]
CRYPTO = WeChatCrypto(TOKEN, os.environ["WECOM_ENCODING_AES_KEY"], RECEIVE_ID)
REFUSED = {"errcode": 7, "errmsg": "设备当前无法绑定，请稍后重试或联系设备厂商处理"}

pool = urllib3.PoolManager(maxsize=8, retries=False, timeout=0.9)


def decide(message):
    """Asks the upstream to decide about a bind."""
    try:
        headers = {"content-type": "application/json"}
        answer = pool.request("POST", UPSTREAM, body=message.encode(), headers=headers)
        return json.loads(answer.data) if answer.status == 200 else REFUSED
    except (urllib3.exceptions.HTTPError, ValueError):
        return REFUSED


def seal(verdict):
    """The reply, encrypted and signed. wechatpy's own form of it is XML, so its parts are used."""
    text = json.dumps(verdict, ensure_ascii=False, separators=(",", ":"))
    encrypt = PrpCrypto(CRYPTO.key).encrypt(text, RECEIVE_ID).decode()
    timestamp, nonce = str(int(time.time())), str(1_000_000_000 + secrets.randbelow(9_000_000_000))
    signer = WeChatSigner()
    signer.add_data(TOKEN, timestamp, nonce, encrypt)
    reply = {"encrypt": encrypt, "msgsignature": signer.signature, "timestamp": timestamp, "nonce": nonce}
    return json.dumps(reply).encode()


def answer(environ):
    """The status, the type and the body of the answer to a request."""
    query = parse_qs(environ["QUERY_STRING"])
    signature, timestamp, nonce = (query[name][0] for name in ("msg_signature", "timestamp", "nonce"))
    body = json.loads(environ["wsgi.input"].read())
    try:
        message = CRYPTO.decrypt_message({"Encrypt": body["encrypt"]}, signature, timestamp, nonce)
    except (InvalidSignatureException, InvalidCorpIdException):
        return "403 Forbidden", "text/plain", b"refused"
    if json.loads(message)["event"]["event_type"] != "bind":
        return "503 Service Unavailable", "text/plain", b"refused"
    return "200 OK", "application/json", seal(decide(message))


def application(environ, start_response):
    """What gunicorn calls."""
    try:
        status, kind, body = answer(environ)
    except (KeyError, ValueError):
        status, kind, body = "400 Bad Request", "text/plain", b"refused"
    start_response(status, [("content-type", kind), ("content-length", str(len(body)))])
    return [body]
