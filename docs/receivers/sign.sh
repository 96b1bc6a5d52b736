#!/bin/sh
# Signs a body as Patchbay does, and posts it: to test a receiver, or to see what a signature should be.
#   WEBHOOK_SECRET=whsec_… PORT=5000 sh sign.sh [body]
# WEBHOOK_ID, WEBHOOK_TIMESTAMP and WEBHOOK_URL are optional. Needs openssl 3 and curl.
# The key is visible in the list of processes while openssl runs: use test keys.
set -eu

id=${WEBHOOK_ID:-evt_$(openssl rand -hex 8)}
timestamp=${WEBHOOK_TIMESTAMP:-$(date +%s)}
body=${1:-'{"id":"evt_1","type":"call.ended","subject":{"type":"call","id":"call_1","sequence":4},"data":{}}'}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s.%s.%s' "$id" "$timestamp" "$body" > "$work/signed"

v1() { # whsec_…: HMAC-SHA256, keyed by the decoded base64 bytes
  key=$(printf %s "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary "$work/signed" | openssl base64 -A
}

v1a() { # whsk_…: Ed25519, keyed by the first 32 bytes, here wrapped in PKCS #8
  printf '\060\056\002\001\000\060\005\006\003\053\145\160\004\042\004\040' > "$work/key"
  printf %s "${1#whsk_}" | openssl base64 -d -A | head -c 32 >> "$work/key"
  openssl pkeyutl -sign -rawin -keyform DER -inkey "$work/key" -in "$work/signed" | openssl base64 -A
}

signatures=
for secret in $WEBHOOK_SECRET; do
  case $secret in
    whsk_*) signature="v1a,$(v1a "$secret")" ;;
    *) signature="v1,$(v1 "$secret")" ;;
  esac
  signatures="$signatures${signatures:+ }$signature"
done

echo "webhook-signature: $signatures"
curl --silent --show-error --max-time 15 --output /dev/null --write-out '%{http_code}\n' \
  --header 'content-type: application/json' --header "webhook-id: $id" --header "webhook-timestamp: $timestamp" \
  --header "webhook-signature: $signatures" --data-raw "$body" "${WEBHOOK_URL:-http://127.0.0.1:${PORT:-5000}/hooks}"
