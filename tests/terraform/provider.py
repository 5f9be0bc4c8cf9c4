"""A Terraform provider that knows the schema of the resources in schema.json and nothing else: it lets `terraform validate`
judge exported files without the real provider. Plugin protocol 6, two kinds of calls: the schema, and "is this valid?"."""

import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "tfplugin6"
ONE, MANY = 1, 3
NESTING_LIST = 2
# Fields of the protocol's messages, by their numbers there: name, number, kind (or the message's name), repeated.
MESSAGES = {
    "Attribute": [("name", 1, "string"), ("type", 2, "bytes"), ("required", 4, "bool"), ("optional", 5, "bool"),
                  ("computed", 6, "bool")],
    "Block": [("version", 1, "int64"), ("attributes", 2, "Attribute", MANY), ("block_types", 3, "NestedBlock", MANY)],
    "NestedBlock": [("type_name", 1, "string"), ("block", 2, "Block"), ("nesting", 3, "int32"), ("min_items", 4, "int64"),
                    ("max_items", 5, "int64")],
    "Schema": [("version", 1, "int64"), ("block", 2, "Block")],
    "Entry": [("key", 1, "string"), ("value", 2, "Schema")],
    "SchemaAnswer": [("provider", 1, "Schema"), ("resource_schemas", 2, "Entry", MANY)],
    "Nothing": [],
}
KINDS = {"string": 9, "bytes": 12, "bool": 8, "int64": 3, "int32": 5, "message": 11}


def messages():
    file = descriptor_pb2.FileDescriptorProto(name="provider.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, *label in fields:
            added = message.field.add(name=field, number=number, label=(label or [ONE])[0], type=KINDS.get(kind, 11))
            if kind not in KINDS:
                added.type_name = f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


WIRE = messages()


def block(facts):
    """`name: type` with `!` in front of what is required and `?` in front of what may be left to the platform."""
    made = WIRE["Block"]()
    for name, of in facts.items():
        required, bare = name.startswith("!"), name.lstrip("!?")
        if isinstance(of, dict):
            nested = made.block_types.add(type_name=bare, nesting=NESTING_LIST, min_items=int(required))
            nested.block.CopyFrom(block(of))
        else:
            made.attributes.add(name=bare, type=json.dumps(of).encode(), required=required, optional=not required,
                                computed=name.startswith("?"))
    return made


def schema(_request, _context):
    facts = json.loads(pathlib.Path(__file__).with_name("schema.json").read_text())
    answer = WIRE["SchemaAnswer"](provider=WIRE["Schema"](block=WIRE["Block"]()))
    for name, resource in facts.items():
        answer.resource_schemas.add(key=name, value=WIRE["Schema"](block=block({"?id": "string", **resource})))
    return answer


def main():
    stopped = threading.Event()

    def nothing(_request, _context):
        return WIRE["Nothing"]()

    def stop(_request, _context):
        stopped.set()
        return WIRE["Nothing"]()

    calls = {"GetProviderSchema": schema, "ValidateProviderConfig": nothing, "ValidateResourceConfig": nothing,
             "StopProvider": stop}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(call, WIRE["Nothing"].FromString, lambda answer: answer.SerializeToString())
        for name, call in calls.items()
    }
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{PACKAGE}.Provider", handlers),))
    shutdown = {"Shutdown": grpc.unary_unary_rpc_method_handler(stop, lambda b: b, lambda _answer: b"")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("plugin.GRPCController", shutdown),))
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = pathlib.Path(folder, "key.pem"), pathlib.Path(folder, "certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        lines = certificate.read_text().strip().splitlines()[1:-1]
    server.start()
    der = base64.b64encode(base64.b64decode("".join(lines))).decode().rstrip("=")
    print(f"1|6|tcp|127.0.0.1:{port}|grpc|{der}", flush=True)
    stopped.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    sys.exit(main())
