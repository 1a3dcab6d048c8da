"""A backend that asks Concierge: who sends this access token, what may that person do, and in which branches?"""
import asyncio
import json
import os
import sys
from pathlib import Path

import grpc
from concierge.access.v1 import access_service_pb2 as access_pb2
from concierge.access.v1 import access_service_pb2_grpc as access_grpc
from concierge.auth.v1 import auth_service_pb2 as auth_pb2
from concierge.auth.v1 import auth_service_pb2_grpc as auth_grpc

from service_token import ServiceTokenInterceptor

TIMEOUT_SECONDS = 5.0


class Unauthorized(Exception):
    """Nobody may do anything by this token."""


class Concierge:
    """`keys` is what `concierge keys add-caller` wrote: a key is for one service, and so is a channel."""

    def __init__(self, address: str, keys: list[dict]):
        def channel_to(callee: str) -> grpc.aio.Channel:
            newest = next(key for key in keys if key["callee"] == callee)
            return grpc.aio.insecure_channel(address, interceptors=[ServiceTokenInterceptor(newest)])

        self.channels = [channel_to("auth"), channel_to("access")]
        self.auth = auth_grpc.AuthInternalServiceStub(self.channels[0])
        self.access = access_grpc.AccessInternalServiceStub(self.channels[1])

    async def verify_token(self, token: str) -> auth_pb2.VerifyTokenResponse:
        """Raises Unauthorized. Any other error says nothing about the token: answer 503."""
        request = auth_pb2.VerifyTokenRequest(access_token=token)
        try:
            verified = await self.auth.VerifyToken(request, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise Unauthorized from error
            raise
        if not verified.active:
            raise Unauthorized
        return verified

    async def check_permission(self, user_id: str, organization_id: str, permission: str, branch_id: str = "") -> bool:
        """In the whole organization, or in one branch of it. Closed: False on any fault, too."""
        request = access_pb2.CheckPermissionRequest(
            user_id=user_id, organization_id=organization_id, permission=permission, branch_id=branch_id
        )
        try:
            return (await self.access.CheckPermission(request, timeout=TIMEOUT_SECONDS)).allowed
        except grpc.aio.AioRpcError:
            return False

    async def list_locals(self, user_id: str, organization_id: str) -> list[str]:
        """Ids of the branches in which a member may act."""
        request = access_pb2.GetUserPermissionsRequest(user_id=user_id, organization_id=organization_id)
        answer = await self.access.GetUserPermissions(request, timeout=TIMEOUT_SECONDS)
        return [branch.branch_id for branch in answer.rights.branches]

    async def close(self):
        for channel in self.channels:
            await channel.close()


async def main(token: str, permission: str):
    keys = json.loads(Path(os.environ["CONCIERGE_KEYS_FILE"]).read_text())["keys"]
    concierge = Concierge(os.environ["CONCIERGE_ADDRESS"], keys)
    try:
        user = await concierge.verify_token(token)
        subject = (user.user_id, user.organization_id)
        allowed = await concierge.check_permission(*subject, permission)
        print(json.dumps({"user": user.user_id, "allowed": allowed, "locals": await concierge.list_locals(*subject)}))
    except Unauthorized:
        print(json.dumps({"unauthorized": True}))
    finally:
        await concierge.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
