"""The same over REST, for where gRPC does not get through. The token is the one of the procedure that a route stands for."""
import json
import urllib.request

import settings
from service_token import sign


def call(procedure: str, path: str, signed: bytes, body: bytes | None = None, headers: dict[str, str] | None = None):
    request = urllib.request.Request(settings.AUTH_REST_URL + path, data=body, headers=headers or {})
    request.add_header("service-token", sign(settings.AUTH_SERVICE_KEY, procedure, signed))
    with urllib.request.urlopen(request, timeout=5.0) as response:
        return json.load(response)


def verify_token(token: str) -> dict:
    body = json.dumps({"token": token}).encode()
    headers = {"content-type": "application/json"}
    return call("/auth.AuthService/VerifyToken", "/auth/verify", signed=body, body=body, headers=headers)


def get_user_locals(user_id: str, org_id: str) -> list[str]:
    path = f"/api/v1/users/{user_id}/locals"
    signed = f"{path}\n{org_id}".encode()
    data = call("/auth.AuthService/GetUserLocals", path, signed=signed, headers={"X-Tenant-ID": org_id})
    return [local["id"] for local in data["locals"]]
