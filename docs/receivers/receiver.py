# WEBHOOK_SECRET=whsec_… PORT=5000 python3 receiver.py
import base64
import hashlib
import hmac
import json
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_SECONDS = 300
MOST_BYTES = 1_048_576


class Refused(Exception):
    """The message is not from Patchbay, or not recent: respond with 400 and do nothing."""


def key_of(secret):
    """The version of a secret, and a function that checks a signature."""
    if secret.startswith("whsk_"):
        raise SystemExit("whsk_ is the sender's private key: WEBHOOK_SECRET takes the endpoint's whpk_.")
    if secret.startswith("whpk_"):
        return "v1a", ed25519(base64.b64decode(secret[5:], validate=True))
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if len(key) < 24:
        raise SystemExit("WEBHOOK_SECRET is too short: was it copied whole?")

    def fits(text, signed):
        own = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        return hmac.compare_digest(own, text.encode())  # in constant time

    return "v1", fits


def ed25519(key):
    """Python's standard library has no Ed25519: v1a, and only that, needs `pip install cryptography`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public_key = Ed25519PublicKey.from_public_bytes(key)

    def fits(text, signed):
        try:
            public_key.verify(base64.b64decode(text, validate=True), signed)
            return True
        except (InvalidSignature, ValueError):
            return False

    return fits


def verify(headers, body, keys):
    """The event of a webhook. `body` is the raw bytes."""
    id, timestamp, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not id or not timestamp or not signatures:
        raise Refused("a header of the signature is missing")
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise Refused("the time is malformed")
    if abs(int(time.time()) - int(timestamp)) > TOLERANCE_SECONDS:
        raise Refused("too old, or of the future")
    signed = f"{id}.{timestamp}.".encode() + body
    for each in signatures.split(" ")[:32]:
        version, _, text = each.partition(",")
        if any(of == version and fits(text, signed) for of, fits in keys):
            try:
                return json.loads(body)
            except ValueError:
                raise Refused("the body is not JSON") from None
    raise Refused("no signature fits")


KEYS = [key_of(secret) for secret in os.environ["WEBHOOK_SECRET"].split(" ")]
SEEN = set()  # for the example only: in production, store the event in a table with a unique id, and work from there
LOCK = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 15

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if length > MOST_BYTES:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        try:
            event = verify(self.headers, body, KEYS)
        except Refused as refused:
            self.log_error("refused: %s", refused)
            return self.answer(400)
        id = self.headers["webhook-id"]
        with LOCK:
            is_new = id not in SEEN
            SEEN.add(id)
        self.answer(204)  # slow work comes after the response
        if is_new:
            print(id, event.get("type"), flush=True)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 5000))), Receiver).serve_forever()
