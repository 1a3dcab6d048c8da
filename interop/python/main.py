"""Makes the calls that it reads, a line of JSON each, and prints a line for what became of each."""
import asyncio
import json
import sys
import urllib.error

import auth_service_pb2 as auth_pb2
import grpc
from google.protobuf.json_format import MessageToDict

import rest_client
from auth_client import AuthClient, UnauthorizedError


async def answer_to(client: AuthClient, by: str, method: str, request: dict, timeout: float):
    """`by` says which code makes the call: a stub that was generated, the client of before, or the one for REST."""
    if by == "client":
        return await getattr(client, method)(**request)
    if by == "rest":
        return getattr(rest_client, method)(**request)
    message = getattr(auth_pb2, method + "Request")(**request)
    answer = await getattr(client.stub, method)(message, timeout=timeout)
    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


async def outcome_of(client: AuthClient, call: dict) -> dict:
    try:
        return {"code": 0, "answer": await answer_to(client, **call)}
    except grpc.RpcError as error:
        return {"code": error.code().value[0]}
    except UnauthorizedError:
        return {"code": "UnauthorizedError"}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "answer": json.load(error)}


async def main():
    client = AuthClient()
    for line in sys.stdin:
        call = json.loads(line)
        times = call.pop("times")
        outcomes = [await outcome_of(client, call) for _ in range(times)]
        print(json.dumps({**outcomes[0], "times": outcomes.count(outcomes[0])}), flush=True)
    await client.close()


asyncio.run(main())
