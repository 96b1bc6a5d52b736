<?php
// WEBHOOK_SECRET=whsec_… php -S 127.0.0.1:${PORT:-5000} receiver.php
declare(strict_types=1);

const TOLERANCE_SECONDS = 300;
const MOST_BYTES = 1_048_576;

/** The message is not from Patchbay, or not recent: respond with 400 and do nothing. */
class Refused extends Exception {}

/** The version of a secret, and its key. */
function keyOf(string $secret): array
{
    if (str_starts_with($secret, 'whsk_')) {
        throw new LogicException('whsk_ is the private key of the sender: give the whpk_ of the endpoint.');
    }
    if (str_starts_with($secret, 'whpk_')) {
        $key = base64_decode(substr($secret, 5), true);
        if ($key === false || strlen($key) !== SODIUM_CRYPTO_SIGN_PUBLICKEYBYTES) {
            throw new LogicException('This is no public key.');
        }
        return ['v1a', $key];
    }
    $key = base64_decode(str_starts_with($secret, 'whsec_') ? substr($secret, 6) : $secret, true);
    if ($key === false || strlen($key) < 24) {
        throw new LogicException('This is no secret: was it copied whole?');
    }
    return ['v1', $key];
}

function fits(string $version, string $key, string $text, string $signed): bool
{
    if ($version === 'v1') {
        return hash_equals(base64_encode(hash_hmac('sha256', $signed, $key, true)), $text); // in constant time
    }
    $signature = base64_decode($text, true);
    return $signature !== false
        && strlen($signature) === SODIUM_CRYPTO_SIGN_BYTES
        && sodium_crypto_sign_verify_detached($signature, $signed, $key);
}

/** The event of a webhook. $body is the raw body, before any parsing. */
function verify(string $id, string $timestamp, string $signatures, string $body, array $keys): array
{
    if ($id === '' || $timestamp === '' || $signatures === '') {
        throw new Refused('a header of the signature is missing');
    }
    if (!preg_match('/^[0-9]{1,12}$/D', $timestamp)) {
        throw new Refused('the time is malformed');
    }
    if (abs(time() - (int) $timestamp) > TOLERANCE_SECONDS) {
        throw new Refused('too old, or of the future');
    }
    foreach (array_slice(explode(' ', $signatures), 0, 32) as $each) {
        [$version, $text] = explode(',', $each, 2) + ['', ''];
        foreach ($keys as [$of, $key]) {
            if ($of === $version && fits($version, $key, $text, "$id.$timestamp.$body")) {
                $event = json_decode($body, true);
                return is_array($event) ? $event : throw new Refused('the body is not JSON');
            }
        }
    }
    throw new Refused('no signature fits');
}

$keys = array_map(keyOf(...), explode(' ', (string) getenv('WEBHOOK_SECRET')));
$body = file_get_contents('php://input', length: MOST_BYTES + 1);
if (strlen($body) > MOST_BYTES) {
    http_response_code(413);
    exit;
}
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
try {
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    $event = verify($id, $timestamp, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body, $keys);
} catch (Refused $refused) {
    error_log("refused: {$refused->getMessage()}");
    http_response_code(400);
    exit;
}

// For the example only: in production, store the event in a table with a unique id, and work from there. `x` creates a
// file only if there is none.
$folder = sys_get_temp_dir() . '/webhooks-seen';
@mkdir($folder, 0700);
$isNew = @fopen("$folder/" . hash('sha256', $id), 'x') !== false;

http_response_code(204); // under php-fpm, fastcgi_finish_request() sends it now, and slow work comes after
if ($isNew) {
    file_put_contents('php://stdout', "$id " . ($event['type'] ?? '') . "\n");
}
