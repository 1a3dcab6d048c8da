"""How Concierge knows who calls: each call carries a token for its procedure and its message, signed with the caller's key.

The key is an entry of the file that `concierge keys add-caller` writes: {"kid", "caller", "callee", "secret", ...}.
"""
import base64
import hashlib
import hmac
import json
import time
import uuid

import grpc


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(key: dict, procedure: str, message: bytes) -> str:
    header = {"alg": "HS256", "typ": "svc+jwt", "kid": key["kid"]}
    now = int(time.time())
    claims = {
        **{"iss": key["caller"], "aud": key["callee"], "proc": procedure},
        **{"iat": now, "exp": now + 30, "jti": str(uuid.uuid4())},
        "bd": encoded(hashlib.sha256(message).digest()),
    }
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    secret = base64.urlsafe_b64decode(key["secret"] + "==")
    return signed + "." + encoded(hmac.digest(secret, signed.encode(), "sha256"))


class ServiceTokenInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, key: dict):
        self.key = key

    async def intercept_unary_unary(self, continuation, call_details, request):
        # grpcio serializes the message once more to send it. Without maps, it gives the same bytes each time.
        message = request.SerializeToString(deterministic=True)
        metadata = grpc.aio.Metadata(*(call_details.metadata or ()))
        metadata.add("service-token", sign(self.key, call_details.method.decode(), message))
        return await continuation(call_details._replace(metadata=metadata), request)
