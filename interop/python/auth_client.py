"""The client as it was before Concierge: only the interceptor of its channel is new."""
import auth_service_pb2 as auth_pb2
import auth_service_pb2_grpc as auth_pb2_grpc
import grpc

import settings
from service_token import ServiceTokenInterceptor


class UnauthorizedError(Exception):
    pass


class AuthClient:
    def __init__(self):
        self.channel = grpc.aio.insecure_channel(
            settings.AUTH_GRPC_URL,
            interceptors=[ServiceTokenInterceptor(settings.AUTH_SERVICE_KEY)]
        )
        self.stub = auth_pb2_grpc.AuthServiceStub(self.channel)

    async def verify_token(self, token: str):
        """Verificar token"""
        request = auth_pb2.VerifyTokenRequest(token=token)

        try:
            response = await self.stub.VerifyToken(request, timeout=5.0)
            return {
                "user_id": response.user_id,
                "organization_id": response.organization_id,
                "email": response.email,
                "permissions": list(response.permissions),
                "locals": list(response.locals),
                "active": response.active
            }
        except grpc.RpcError as e:
            if e.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise UnauthorizedError("Token inválido")
            raise

    async def check_permission(
        self,
        user_id: str,
        organization_id: str,
        permission: str
    ) -> bool:
        """Verificar si usuario tiene permiso"""
        request = auth_pb2.CheckPermissionRequest(
            user_id=user_id,
            organization_id=organization_id,
            permission=permission
        )

        try:
            response = await self.stub.CheckPermission(request, timeout=5.0)
            return response.has_permission
        except grpc.RpcError:
            return False

    async def close(self):
        """Cerrar canal"""
        await self.channel.close()
