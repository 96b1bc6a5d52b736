#!/usr/bin/env python3
"""Makes webhook-vectors.json: what a receiver must accept, and every way in which it must refuse.

    python3 tests/support/webhook-vectors.py > tests/support/webhook-vectors.json && npm run format

Nothing of Patchbay has a part in it. HMAC is Python's own and, byte for byte, that of `openssl`; Ed25519 is that of
`openssl`. Three answers are known from elsewhere and must come out: the two of Standard Webhooks and the key of
RFC 8032. With `--now SECONDS` the same vectors are made for another moment, for receivers whose clock is the real one.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import subprocess
import tempfile

KNOWN_MOMENT = 1614265330
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
TOLERANCE = 300

arguments = argparse.ArgumentParser()
arguments.add_argument("--now", type=int, default=KNOWN_MOMENT)
NOW = arguments.parse_args().now


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def openssl(*words: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=given, capture_output=True, check=True).stdout


def with_files(files: dict[str, bytes], work) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: os.path.join(folder, name) for name in files}
        for name, content in files.items():
            with open(paths[name], "wb") as file:
                file.write(content)
        return work(paths)


# Keys --------------------------------------------------------------------------------------------------------------


def hmac_key(name: str) -> bytes:
    return hashlib.sha256(f"a test's secret: {name}".encode()).digest()


def whsec(key: bytes) -> str:
    return f"whsec_{b64(key)}"


def pkcs8(seed: bytes) -> bytes:
    return bytes.fromhex("302e020100300506032b657004220420") + seed


def public_of(seed: bytes) -> bytes:
    def derive(path):
        return openssl("pkey", "-inform", "DER", "-in", path["key"], "-pubout", "-outform", "DER")

    return with_files({"key": pkcs8(seed)}, derive)[12:]


def whsk(seed: bytes) -> str:
    return f"whsk_{b64(seed + public_of(seed))}"


def whpk(seed: bytes) -> str:
    return f"whpk_{b64(public_of(seed))}"


KNOWN = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
OLD, NEW, OTHER = hmac_key("old"), hmac_key("new"), hmac_key("other")
KNOWN_SEED = base64.b64decode("6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=")
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
OTHER_SEED = hashlib.sha256(b"a test's seed: other").digest()

assert public_of(SEED).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


# Signatures --------------------------------------------------------------------------------------------------------


def mac(key: bytes, content: bytes) -> bytes:
    own = hmac.new(key, content, hashlib.sha256).digest()
    if not key:
        return own  # openssl takes no empty key
    assert own == openssl("dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", given=content)
    return own


def ed25519(seed: bytes, content: bytes) -> bytes:
    def sign(path):
        return openssl("pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", path["key"], "-in", path["content"])

    return with_files({"key": pkcs8(seed), "content": content}, sign)


def content(id: str, timestamp, body: bytes) -> bytes:
    return f"{id}.{timestamp}.".encode() + body


def v1(key: bytes, id: str = ID, timestamp=NOW, body: bytes = BODY) -> str:
    return f"v1,{b64(mac(key, content(id, timestamp, body)))}"


def v1a(seed: bytes, id: str = ID, timestamp=NOW, body: bytes = BODY) -> str:
    return f"v1a,{b64(ed25519(seed, content(id, timestamp, body)))}"


assert v1(KNOWN, timestamp=KNOWN_MOMENT) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
assert v1a(KNOWN_SEED, timestamp=KNOWN_MOMENT) == (
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)


# Vectors -----------------------------------------------------------------------------------------------------------

vectors: list[dict] = []


def vector(verdict, name, *, signature, reason, secrets=None, id=ID, timestamp=NOW, body=BODY, names=str, **more):
    """`signature`, `id` and `timestamp` are what arrives; None: the header does not. `more`: what few vectors have."""
    arriving = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    vectors.append(
        {
            "name": name,
            "secrets": [whsec(NEW)] if secrets is None else secrets,
            "headers": [[names(key), str(value)] for key, value in arriving.items() if value is not None],
            **as_json(body),
            "now": NOW,
            "toleranceSeconds": more.pop("tolerance", TOLERANCE),
            "verdict": verdict,
            **more,
            "reason": reason,
        }
    )


def as_json(body: bytes) -> dict:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"bodyBase64": b64(body)}


def accepted(name, **what):
    vector("accepted", name, **what)


def refused(refusal, name, **what):
    vector("refused", name, refusal=refusal, **what)


def misconfigured(name, **what):
    vector("misconfigured", name, **what)


def envelope(**data) -> bytes:
    event = {
        "id": "evt_01m82qzn78fnpvqa8t0p230rr1",
        "type": "call.ended",
        "createdAt": "2026-11-24T10:00:00.000Z",
        "clientId": "client_01m82qzfp2fkfv7dr4aw0f1srw",
        "subject": {"type": "call", "id": "call_01m82qzfp2fkfv7dr4aw0f1srw", "sequence": 4},
        **data,
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


EVENT = envelope(data={"endReason": "hangup"})
ZOE = envelope(data={"said": "Zoë, 世界 🎧\u2028 </script>"})
PRETTY = json.dumps(json.loads(EVENT), indent=2).encode() + b"\r\n"
BROKEN = b'{"said":"\xc3\x28\xff"}'
wrong = v1(OTHER)

accepted(
    "the known answer of Standard Webhooks, v1",
    secrets=[whsec(KNOWN)],
    signature=v1(KNOWN),
    reason="the published vector of its own suites",
)
accepted(
    "the known answer of Standard Webhooks, v1a",
    secrets=[whpk(KNOWN_SEED)],
    signature=v1a(KNOWN_SEED),
    reason="the signature that the specification prints, verified by the public key alone",
)
accepted(
    "an event signed by v1",
    id="evt_01m82qzn78fnpvqa8t0p230rr1",
    body=EVENT,
    signature=v1(NEW, id="evt_01m82qzn78fnpvqa8t0p230rr1", body=EVENT),
    reason="what comes every day",
)
accepted(
    "an event signed by v1a",
    id="evt_01m82qzn78fnpvqa8t0p230rr1",
    body=EVENT,
    secrets=[whpk(SEED)],
    signature=v1a(SEED, id="evt_01m82qzn78fnpvqa8t0p230rr1", body=EVENT),
    reason="the key of RFC 8032, test 1",
)
accepted("a thin event", body=envelope(), signature=v1(NEW, body=envelope()), reason="without data it is signed alike")
accepted("a secret without its prefix", secrets=[b64(NEW)], signature=v1(NEW), reason="as other suites allow")
accepted(
    "two signatures, and a receiver with the new secret",
    signature=f"{v1(NEW)} {v1(OLD)}",
    reason="a secret is being replaced, and this receiver has been told",
)
accepted(
    "two signatures, and a receiver with the old secret",
    secrets=[whsec(OLD)],
    signature=f"{v1(NEW)} {v1(OLD)}",
    reason="this one has not",
)
accepted(
    "one signature, and a receiver with two secrets",
    secrets=[whsec(NEW), whsec(OLD)],
    signature=v1(OLD),
    reason="a receiver may know the new secret before it is used",
)
accepted(
    "from v1 to v1a, and a receiver with the secret",
    signature=f"{v1a(SEED)} {v1(NEW)}",
    reason="a signature of a scheme that has no key here is passed over",
)
accepted(
    "from v1 to v1a, and a receiver with the public key",
    secrets=[whpk(SEED)],
    signature=f"{v1a(SEED)} {v1(NEW)}",
    reason="nothing is needed but the public key",
)
accepted(
    "from v1 to v1a, and a receiver with both",
    secrets=[whsec(OLD), whpk(SEED)],
    signature=v1a(SEED),
    reason="a list may mix the two kinds",
)
accepted(
    "a right signature among wrong ones",
    signature=f"{wrong} v2,{wrong[3:]} {v1(NEW)} {wrong}",
    reason="one that fits is enough, wherever it stands",
)
accepted(
    "a right signature among unknown versions",
    signature=f"v2,abcd v1b,%% v1 , garbage  v3 v1,%% v1a,abcd {v1(NEW)}",
    reason="versions may be added, and nothing that is not understood does harm",
)
accepted("names of headers in capitals", names=str.upper, signature=v1(NEW), reason="names of headers have no case")
accepted(
    "a body beyond ASCII",
    body=ZOE,
    signature=v1(NEW, body=ZOE),
    reason="the bytes are signed, two to four of them a character",
)
accepted(
    "a body with spaces and line ends",
    body=PRETTY,
    signature=v1(NEW, body=PRETTY),
    reason="it is the body as it came; whoever parses it first and prints it again does not get these bytes",
)
accepted(
    "a signature as old as may be",
    timestamp=NOW - TOLERANCE,
    signature=v1(NEW, timestamp=NOW - TOLERANCE),
    reason="the edge lies within",
)
accepted(
    "a signature as far ahead as may be",
    timestamp=NOW + TOLERANCE,
    signature=v1(NEW, timestamp=NOW + TOLERANCE),
    reason="the edge lies within",
)
accepted(
    "an old signature where that is allowed",
    timestamp=NOW - 500,
    tolerance=600,
    signature=v1(NEW, timestamp=NOW - 500),
    reason="the tolerance is the receiver's to choose",
)

for header in ("id", "timestamp", "signature"):
    parts = {"signature": v1(NEW)}
    refused("header_missing", f"no webhook-{header}", **{**parts, header: None}, reason="nothing can be computed")
    refused("header_missing", f"an empty webhook-{header}", **{**parts, header: ""}, reason="the same as none")

for text, why in [
    ("hello", "no number"),
    ("1e9", "a number, but not of digits alone"),
    (f"{NOW}.5", "a parser that stops at the first character it cannot read would take it"),
    (f"-{NOW}", "long before the clock began"),
    (f"{NOW}000", "milliseconds"),
]:
    refused(
        "timestamp_malformed", f"the time {text}", timestamp=text, signature=v1(NEW, timestamp=text), reason=why
    )

refused(
    "timestamp_too_old",
    "a signature one second too old",
    timestamp=NOW - TOLERANCE - 1,
    signature=v1(NEW, timestamp=NOW - TOLERANCE - 1),
    reason="right but late: whoever recorded it may not play it again",
)
refused(
    "timestamp_too_new",
    "a signature one second too far ahead",
    timestamp=NOW + TOLERANCE + 1,
    signature=v1(NEW, timestamp=NOW + TOLERANCE + 1),
    reason="a window that looks back only is widened by whoever dates ahead",
)
refused(
    "timestamp_too_old",
    "a signature of yesterday",
    timestamp=NOW - 86400,
    signature=v1(NEW, timestamp=NOW - 86400),
    reason="right, but long ago",
)
refused(
    "timestamp_too_new",
    "a signature of tomorrow",
    timestamp=NOW + 86400,
    signature=v1(NEW, timestamp=NOW + 86400),
    reason="right, but not yet",
)
refused(
    "timestamp_too_old",
    "an old signature where only a minute is allowed",
    timestamp=NOW - 61,
    tolerance=60,
    signature=v1(NEW, timestamp=NOW - 61),
    reason="the tolerance is the receiver's to choose",
)

mismatch = "signature_mismatch"
refused(mismatch, "another secret", signature=v1(OTHER), reason="not signed by the one who knows this secret")
refused(mismatch, "another key pair", secrets=[whpk(SEED)], signature=v1a(OTHER_SEED), reason="not this one's key")
refused(mismatch, "a changed body", body=BODY.replace(b"4}", b"5}"), signature=v1(NEW), reason="one digit")
refused(
    mismatch,
    "a changed body, v1a",
    secrets=[whpk(SEED)],
    body=BODY.replace(b"4}", b"5}"),
    signature=v1a(SEED),
    reason="one digit",
)
refused(mismatch, "a longer body", body=BODY + b"\n", signature=v1(NEW), reason="a line end that a proxy added")
refused(
    mismatch,
    "a body parsed and printed again",
    body=json.dumps(json.loads(BODY), separators=(",", ":")).encode(),
    signature=v1(NEW),
    reason="the same JSON, but not the same bytes: what a parser ahead of the check leaves",
)
refused(mismatch, "a body that was eaten", body=b"", signature=v1(NEW), reason="somebody read the stream before")
refused(
    mismatch,
    "bytes that are no text, read as text",
    body=BROKEN.decode(errors="replace").encode(),
    signature=v1(NEW, body=BROKEN),
    reason="decoding has put other bytes in their place",
)
refused(mismatch, "another message's id", id="msg_other", signature=v1(NEW), reason="or an old event came as a new one")
refused(
    mismatch,
    "another time",
    timestamp=NOW + 1,
    signature=v1(NEW),
    reason="or an old event could be played again for ever",
)
refused(mismatch, "the body alone signed", signature=f"v1,{b64(mac(NEW, BODY))}", reason="id and time belong to it")
refused(
    mismatch,
    "signed with the text of the secret",
    signature=f"v1,{b64(mac(whsec(NEW).encode(), content(ID, NOW, BODY)))}",
    reason="the key is what the base64 after the prefix stands for",
)
refused(
    mismatch,
    "in hexadecimal",
    signature=f"v1,{mac(NEW, content(ID, NOW, BODY)).hex()}",
    reason="it is base64 that is written",
)
refused(
    mismatch,
    "a truncated signature",
    signature=v1(NEW)[:-8],
    reason="the beginning of the right one is not the right one",
)
refused(mismatch, "one byte of the signature", signature=v1(NEW)[:7], reason="as above")
refused(mismatch, "a signature of no bytes", signature="v1,", reason="comparing nothing with nothing fits always")
refused(
    mismatch,
    "a truncated signature, v1a",
    secrets=[whpk(SEED)],
    signature=f"v1a,{b64(base64.b64decode(v1a(SEED)[4:])[:-1])}",
    reason="63 bytes are none",
)
refused(
    mismatch,
    "a signature of zeros, v1a",
    secrets=[whpk(SEED)],
    signature=f"v1a,{b64(bytes(64))}",
    reason="a point of small order fits careless verifiers",
)
refused(mismatch, "no base64", signature="v1,dawfeoifkpqwoekf%%", reason="an error of the decoder is a refusal")
refused(mismatch, "no version", signature=v1(NEW)[3:], reason="what it is must be said")
refused(
    mismatch,
    "the right bytes under an unknown version only",
    signature=f"v2,{v1(NEW)[3:]}",
    reason="a scheme that is not known is not guessed at",
)
refused(
    mismatch,
    "a v1 signature that says v1a",
    secrets=[whsec(NEW), whpk(SEED)],
    signature=f"v1a,{v1(NEW)[3:]}",
    reason="a signature is verified by its own scheme alone",
)
refused(
    mismatch,
    "a v1a signature that says v1",
    secrets=[whsec(NEW), whpk(SEED)],
    signature=f"v1,{v1a(SEED)[4:]}",
    reason="a signature is verified by its own scheme alone",
)
refused(
    mismatch,
    "an HMAC keyed by the public key",
    secrets=[whpk(SEED)],
    signature=v1(public_of(SEED)),
    reason="everybody knows that key: it must never serve as a secret",
)
refused(
    mismatch,
    "only v1a, where only the secret is known",
    signature=v1a(SEED),
    reason="there is no key for it here",
)

refused(
    "payload_malformed",
    "an empty body, signed",
    body=b"",
    signature=v1(NEW, body=b""),
    reason="no event; the library of Standard Webhooks answers undefined",
    library="accepted",
)
refused(
    "payload_malformed",
    "bytes that are no text, signed",
    body=BROKEN,
    signature=v1(NEW, body=BROKEN),
    reason="the signature is right, but this is not JSON, which is UTF-8",
)
refused("payload_malformed", "half a body, signed", body=b'{"test"', signature=v1(NEW, body=b'{"test"'), reason="no JSON")

misconfigured("no secret", secrets=[], signature=v1(NEW), reason="nothing could ever be accepted")
misconfigured("an empty secret", secrets=[""], signature=v1(b""), reason="everybody could sign with it")
misconfigured("an empty secret with its prefix", secrets=["whsec_"], signature=v1(b""), reason="the same")
misconfigured(
    "a secret copied in part",
    secrets=[whsec(NEW)[:20]],
    signature=v1(NEW),
    reason="a secret has 24 bytes at least",
)
misconfigured("a secret that is no base64", secrets=["whsec_%"], signature=v1(NEW), reason="not copied from us")
misconfigured(
    "the private key",
    secrets=[whsk(SEED)],
    signature=v1a(SEED),
    reason="it is the sender's alone: here it would be in the wrong hands",
)
misconfigured("a public key too short", secrets=[whpk(SEED)[:40]], signature=v1a(SEED), reason="it has 32 bytes")


# What the sender writes --------------------------------------------------------------------------------------------


def signing(name, secrets, signatures, **message):
    message = {"id": ID, "timestampSeconds": NOW, "body": BODY.decode(), **message}
    return {"name": name, **message, "secrets": secrets, "signature": " ".join(signatures)}


document = {
    "$comment": [
        "What a receiver of Patchbay's webhooks (Standard Webhooks 1.0, v1 and v1a) must accept and must refuse.",
        "Made by webhook-vectors.py beside this file with Python's hmac and the openssl command, without our code.",
        "A vector is whole in itself: the receiver's secrets, the headers and the body as they arrive (bodyBase64 where",
        "it is no text), the moment at which they do, and the tolerance. verdict is accepted, refused (refusal says as",
        "what), or misconfigured: the receiver's own mistake, which is no refusal of the message. library is the",
        "verdict of the package standardwebhooks where it differs. signing is what a sender must write, to the letter:",
        "both schemes are deterministic.",
    ],
    "refusals": [
        "header_missing",
        "timestamp_malformed",
        "timestamp_too_old",
        "timestamp_too_new",
        "signature_mismatch",
        "payload_malformed",
    ],
    "vectors": vectors,
    "signing": [
        signing("the known answer, v1", [whsec(KNOWN)], [v1(KNOWN)]),
        signing("the known answer, v1a", [whsk(KNOWN_SEED)], [v1a(KNOWN_SEED)]),
        signing("two secrets, the newest first", [whsec(NEW), whsec(OLD)], [v1(NEW), v1(OLD)]),
        signing("both schemes", [whsk(SEED), whsec(OLD)], [v1a(SEED), v1(OLD)]),
        signing("beyond ASCII, v1", [whsec(NEW)], [v1(NEW, body=ZOE)], body=ZOE.decode()),
        signing("beyond ASCII, v1a", [whsk(SEED)], [v1a(SEED, body=ZOE)], body=ZOE.decode()),
        signing("an empty body", [whsec(NEW)], [v1(NEW, body=b"")], body=""),
    ],
}
assert {each["refusal"] for each in vectors if "refusal" in each} == set(document["refusals"])
assert len({each["name"] for each in vectors}) == len(vectors)
print(json.dumps(document, indent=2, ensure_ascii=False))
