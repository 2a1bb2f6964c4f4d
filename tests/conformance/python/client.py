"""PyPI's wechatpy. Its WeChatCrypto writes and reads the XML form of the protocol: what it seals is taken
out of its XML and put into WeCom's JSON, and replies are handed to it as a dict.

tests/conformance/clients.rs says what is read and written.
"""

import http.client
import importlib.metadata
import itertools
import json
import queue
import sys
import threading
import time
import urllib.parse

import xmltodict
from wechatpy.enterprise.crypto import WeChatCrypto

work = json.load(sys.stdin)
accounts, callbacks = work["accounts"], work["callbacks"]
host = urllib.parse.urlsplit(work["url"]).netloc
cryptos = [WeChatCrypto(a["token"], a["encodingAesKey"], a["receiveId"]) for a in accounts]
nonces = itertools.count(1_000_000_000)


def send(connection, callback):
    """Seals and sends a callback, and opens the reply."""
    account, crypto = accounts[callback["account"]], cryptos[callback["account"]]
    timestamp, nonce = str(int(time.time())), str(next(nonces))
    sealed = xmltodict.parse(crypto.encrypt_message(callback["message"], nonce, timestamp))["xml"]
    query = {"msg_signature": sealed["MsgSignature"], "timestamp": sealed["TimeStamp"], "nonce": sealed["Nonce"]}
    body, headers = None, {}
    if callback["method"] == "GET":
        query["echostr"] = sealed["Encrypt"]
    else:
        body = json.dumps({"tousername": account["receiveId"], "encrypt": sealed["Encrypt"]})
        headers = {"content-type": "application/json"}
    connection.request(callback["method"], f"{account['path']}?{urllib.parse.urlencode(query)}", body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    if callback["method"] == "GET":
        return {"status": response.status, "message": text}
    reply = json.loads(text)
    assert list(reply) == ["encrypt", "msgsignature", "timestamp", "nonce"], reply
    # Checks signature and receive id too.
    opened = crypto.decrypt_message(
        {"Encrypt": reply["encrypt"]}, reply["msgsignature"], reply["timestamp"], reply["nonce"]
    )
    return {"status": response.status, "message": opened}


def probe(probe):
    """Whether the library takes a message that is wrong in one way."""
    crypto = cryptos[probe["account"]]
    signature = "" if probe["name"] == "unsigned" else probe["signature"]
    try:
        crypto.decrypt_message({"Encrypt": probe["encrypt"]}, signature, probe["timestamp"], probe["nonce"])
    except Exception as error:
        kind = type(error)
        is_own = kind.__module__.startswith("wechatpy.")
        return f"refused ({kind.__name__ if is_own else f'{kind.__module__}.{kind.__name__}'})"
    return "accepted"


def sender():
    connection = http.client.HTTPConnection(host)
    while True:
        try:
            index = todo.get_nowait()
        except queue.Empty:
            connection.close()
            return
        try:
            answers[index] = send(connection, callbacks[index])
        except Exception as error:
            answers[index] = {"error": repr(error)}
            connection.close()  # the next one begins a new connection


todo = queue.SimpleQueue()
for index in range(len(callbacks)):
    todo.put(index)
answers = [None] * len(callbacks)
threads = [threading.Thread(target=sender) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

result = {
    "version": importlib.metadata.version("wechatpy"),
    "answers": answers,
    "probes": [probe(one) for one in work["probes"]],
}
json.dump(result, sys.stdout)
