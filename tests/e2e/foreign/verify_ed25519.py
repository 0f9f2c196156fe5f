# Verifies an Ed25519 delivery with the published keys alone; anything but success is an exception.
import base64, json, sys

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

delivery = json.load(sys.stdin)
headers, body = delivery["headers"], delivery["body"].encode()
message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
keys = [VerifyKey(base64.urlsafe_b64decode(key["x"] + "=")) for key in delivery["jwks"]["keys"]]


def verifies(key, signature):
    try:
        key.verify(message, base64.b64decode(signature))
        return True
    except BadSignatureError:
        return False


signatures = [part.removeprefix("v1a,") for part in headers["webhook-signature"].split(" ")]
if not any(verifies(key, signature) for key in keys for signature in signatures):
    sys.exit("WebhookVerificationError: no key verifies")
