"""tritonclient (HTTP, its asyncio form, gRPC) against a running server. Every answer is compared with that of /v1.

usage: triton.py HOST:PORT
"""

import asyncio
import json
import re
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_aio
from answers import FEATURES, NUMBERS, ROWS, SERVER, TEXTS, Same, expected, inputs, post
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

MESSAGES = Path(__file__).resolve().parents[2] / "src/http/wire/oip/messages.rs"


def thousand(make, rows, **how):
    tensors = []
    for name in ["recency_days", "frequency_count"]:
        values = np.tile(np.array([[12.0], [30.0]], np.float32), (rows // 2 + 1, 1))[:rows]
        tensor = make(name, [rows, 1], "FP32")
        tensor.set_data_from_numpy(values, **how)
        tensors.append(tensor)
    return tensors


class Refusing(Same):
    def refused(self, part, call, *arguments, **named):
        with self.assertRaises(InferenceServerException) as caught:
            call(*arguments, **named)
        self.assertIn(part, str(caught.exception))
        return caught.exception


class TritonHttp(Refusing):
    def setUp(self):
        self.client = triton_http.InferenceServerClient(SERVER)
        self.addCleanup(self.client.close)

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live() and self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("clv") and self.client.is_model_ready("clv", "v1.2"))
        self.assertFalse(self.client.is_model_ready("nobody") or self.client.is_model_ready("clv", "v9"))
        self.assertEqual(self.client.get_server_metadata()["name"], "scoreline")
        metadata = self.client.get_model_metadata("clv")
        self.assertEqual(metadata["versions"], ["v1.2"])
        self.assertLessEqual(set(FEATURES), {it["name"] for it in metadata["inputs"]})
        self.assertEqual([it["name"] for it in metadata["outputs"]], NUMBERS + TEXTS)
        lead = self.client.get_model_metadata("lead", "v1.1")
        self.assertIn("BYTES", {it["datatype"] for it in lead["inputs"]})

    def test_repository_and_statistics(self):
        index = self.client.get_model_repository_index()
        states = {(it["name"], it["version"]): it for it in index}
        self.assertEqual(states["clv", "v1.2"]["state"], "READY")
        self.assertEqual(states["clv", "v9.9"]["state"], "UNAVAILABLE")
        self.assertIn("checksum", states["clv", "v9.9"]["reason"])
        for call in [self.client.load_model, self.client.unload_model]:
            self.assertEqual(self.refused("models are files", call, "clv").status(), "403")
        self.client.infer("clv", inputs(triton_http.InferInput))
        stats = self.client.get_inference_statistics("clv")["model_stats"][0]
        self.assertGreaterEqual(stats["inference_stats"]["success"]["count"], 3)
        self.assertGreater(stats["inference_stats"]["success"]["ns"], 0)
        self.assertEqual(len(self.client.get_inference_statistics()["model_stats"]), 3)
        self.refused("no such path", self.client.get_model_config, "clv")
        self.refused("no such path", self.client.get_system_shared_memory_status)

    def test_raw_is_the_default(self):
        answer = self.client.infer("clv", inputs(triton_http.InferInput))
        self.same(answer.as_numpy)
        self.assertEqual(answer.get_response()["model_version"], "v1.2")

    def test_json_with_id_outputs_and_parameters(self):
        wanted = [triton_http.InferRequestedOutput(name, binary_data=False) for name in ["source", "clv_value_usd"]]
        answer = self.client.infer(
            "clv",
            inputs(triton_http.InferInput, ["recency_days", "frequency_count"], binary_data=False),
            model_version="v1.2",
            outputs=wanted,
            request_id="r1",
            priority=1,
            timeout=5_000_000,
            parameters={"x": "y", "explain": True},
        )
        rows = [{name: row[name] for name in ["recency_days", "frequency_count"]} for row in ROWS]
        self.same(answer.as_numpy, expected(rows), ["clv_value_usd", "source"])
        self.assertEqual([it["name"] for it in answer.get_response()["outputs"]], ["source", "clv_value_usd"])
        self.assertEqual(answer.get_response()["id"], "r1")

    def test_mixed_forms(self):
        wanted = [
            triton_http.InferRequestedOutput("clv_tier", binary_data=True),
            triton_http.InferRequestedOutput("clv_value_usd", binary_data=False),
        ]
        answer = self.client.infer("clv", inputs(triton_http.InferInput), outputs=wanted)
        self.same(answer.as_numpy, names=["clv_value_usd", "clv_tier"])

    def test_packed(self):
        for algorithm in ["gzip", "deflate"]:
            answer = self.client.infer(
                "clv",
                inputs(triton_http.InferInput),
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            self.same(answer.as_numpy)

    def test_types(self):
        for datatype, dtype in [("FP64", np.float64), ("FP32", np.float32)]:
            self.same(self.client.infer("clv", inputs(triton_http.InferInput, datatype=datatype, dtype=dtype)).as_numpy)
        for datatype in ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]:
            names = ["recency_days", "frequency_count"]
            made = inputs(triton_http.InferInput, names, datatype, np.dtype(datatype.lower()))
            rows = [{name: row[name] for name in names} for row in ROWS]
            self.same(self.client.infer("clv", made).as_numpy, expected(rows))

    def test_what_is_known_beside_the_features(self):
        named = triton_http.InferInput("customer_id", [3, 1], "BYTES")
        named.set_data_from_numpy(np.array([[b"C-1"], [b"C-2"], [b""]], object))
        more = {"acquisition_channel": "referral", "interval_level": 0.8}
        asked = [*inputs(triton_http.InferInput), named]
        first = self.client.infer("clv", asked, parameters=more)
        self.same(first.as_numpy, expected(**more))
        again = self.client.infer("clv", asked, parameters=more)
        self.assertEqual(list(again.as_numpy("source").reshape(-1)[:2]), [b"cache", b"cache"])
        said = again.get_response()["parameters"]
        self.assertEqual(said["interval_level"], 0.8)
        explained = self.client.infer("clv", asked, parameters={"explain": True})
        self.assertIn("contributions", json.loads(explained.as_numpy("explanation").reshape(-1)[0]))

    def test_leads(self):
        row = {"age": 40.0, "emp.var.rate": 1.1, "euribor3m": 4.858, "nr.employed": 5191.0, "contact": "cellular"}
        made = []
        for name, value in row.items():
            text = isinstance(value, str)
            tensor = triton_http.InferInput(name, [1, 1], "BYTES" if text else "FP64")
            tensor.set_data_from_numpy(np.array([[value]], object if text else np.float64))
            made.append(tensor)
        answer = self.client.infer("lead", made)
        told = post("/v1/predict/lead", {"features": row})["prediction"]
        self.assertEqual(answer.as_numpy("conversion_probability")[0][0], told["conversion_probability"])
        self.assertTrue(1 <= answer.as_numpy("priority_score")[0][0] <= 100)

    def test_a_thousand_rows_and_one_more(self):
        answer = self.client.infer("clv", thousand(triton_http.InferInput, 1000))
        told = expected([{"recency_days": days, "frequency_count": days} for days in [12, 30]])
        self.assertEqual(answer.as_numpy("clv_value_usd").shape, (1000, 1))
        np.testing.assert_array_equal(answer.as_numpy("clv_value_usd").reshape(-1), told["clv_value_usd"] * 500)
        refused = self.refused("at most 1000 rows", self.client.infer, "clv", thousand(triton_http.InferInput, 1001))
        self.assertEqual(refused.status(), "413")

    def test_errors(self):
        good = inputs(triton_http.InferInput)
        infer = self.client.infer
        self.assertEqual(self.refused("there is no such model", infer, "nobody", good).status(), "404")
        self.assertEqual(self.refused("does not serve", infer, "clv", good, model_version="v9").status(), "404")
        wanted = [triton_http.InferRequestedOutput("no_such")]
        self.assertEqual(self.refused("cannot be had", infer, "clv", good, outputs=wanted).status(), "400")
        for name, shape, datatype, values, part in [
            ("no_such", [3, 1], "FP32", np.ones((3, 1), np.float32), "is not known"),
            ("tenure_days", [3, 2], "FP32", np.ones((3, 2), np.float32), "must have the shape"),
            ("tenure_days", [2, 1], "FP32", np.ones((2, 1), np.float32), "same n"),
            ("tenure_days", [3, 1], "BYTES", np.array([["a"], ["b"], ["c"]], object), "must be a number"),
            ("tenure_days", [3, 1], "FP16", np.ones((3, 1), np.float16), "datatype"),
        ]:
            wrong = triton_http.InferInput(name, shape, datatype)
            wrong.set_data_from_numpy(values)
            self.assertEqual(self.refused(part, infer, "clv", [*good, wrong]).status(), "400")
        # A tail that is shorter than it says.
        body, length = triton_http.InferenceServerClient.generate_request_body(good)
        request = urllib.request.Request(f"http://{SERVER}/v2/models/clv/infer", body[:-3])
        request.add_header("Inference-Header-Content-Length", str(length))
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        self.assertEqual(caught.exception.code, 400)


class TritonAio(Same):
    def test_asyncio(self):
        async def ask():
            async with triton_aio.InferenceServerClient(SERVER) as client:
                self.assertTrue(await client.is_server_ready())
                self.same((await client.infer("clv", inputs(triton_http.InferInput))).as_numpy)
                for algorithm in ["gzip", "deflate"]:
                    answer = await client.infer(
                        "clv", inputs(triton_http.InferInput), request_compression_algorithm=algorithm
                    )
                    self.same(answer.as_numpy)

        asyncio.run(ask())


class TritonGrpc(Same):
    def setUp(self):
        self.client = triton_grpc.InferenceServerClient(SERVER)
        self.addCleanup(self.client.close)

    def code(self, expected, call, *arguments, **named):
        with self.assertRaises(InferenceServerException) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.status(), f"StatusCode.{expected}", str(caught.exception))
        return str(caught.exception)

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live() and self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("clv") and self.client.is_model_ready("clv", "v1.2"))
        self.code("NOT_FOUND", self.client.is_model_ready, "nobody")
        self.assertEqual(self.client.get_server_metadata().name, "scoreline")
        metadata = self.client.get_model_metadata("clv")
        self.assertEqual(list(metadata.versions), ["v1.2"])
        self.assertEqual(list(metadata.inputs[0].shape), [-1, 1])
        self.assertEqual([it.name for it in metadata.outputs], NUMBERS + TEXTS)

    def test_repository_and_statistics(self):
        states = {(it.name, it.version): it for it in self.client.get_model_repository_index().models}
        self.assertEqual(states["clv", "v1.2"].state, "READY")
        self.assertEqual(states["clv", "v9.9"].state, "UNAVAILABLE")
        self.assertIn("checksum", states["clv", "v9.9"].reason)
        for call in [self.client.load_model, self.client.unload_model]:
            self.code("PERMISSION_DENIED", call, "clv")
        self.client.infer("clv", inputs(triton_grpc.InferInput))
        stats = self.client.get_inference_statistics("clv").model_stats[0]
        self.assertGreaterEqual(stats.inference_stats.success.count, 3)
        self.assertEqual(len(self.client.get_inference_statistics().model_stats), 3)
        for call in [
            lambda: self.client.get_model_config("clv"),
            self.client.get_system_shared_memory_status,
            lambda: self.client.get_trace_settings("clv"),
            self.client.get_log_settings,
        ]:
            self.code("UNIMPLEMENTED", call)

    def test_raw(self):
        answer = self.client.infer("clv", inputs(triton_grpc.InferInput))
        self.same(answer.as_numpy)
        self.assertEqual(answer.get_response().parameters["interval_level"].double_param, 0.9)

    def test_id_outputs_parameters_and_packed(self):
        for algorithm in [None, "gzip", "deflate"]:
            answer = self.client.infer(
                "clv",
                inputs(triton_grpc.InferInput),
                model_version="v1.2",
                outputs=[triton_grpc.InferRequestedOutput("clv_value_usd")],
                request_id="r1",
                priority=1,
                timeout=5_000_000,
                client_timeout=10,
                parameters={"x": "y", "explain": True, "interval_level": 0.8},
                compression_algorithm=algorithm,
            )
            self.same(answer.as_numpy, expected(interval_level=0.8), ["clv_value_usd"])
            self.assertEqual(answer.get_response().id, "r1")
            self.assertEqual(len(answer.get_response().outputs), 1)

    def test_a_thousand_rows_and_one_more(self):
        answer = self.client.infer("clv", thousand(triton_grpc.InferInput, 1000))
        self.assertEqual(answer.as_numpy("clv_value_usd").shape, (1000, 1))
        told = self.code("INVALID_ARGUMENT", self.client.infer, "clv", thousand(triton_grpc.InferInput, 1001))
        self.assertIn("at most 1000 rows", told)

    def test_errors(self):
        good = inputs(triton_grpc.InferInput)
        self.code("NOT_FOUND", self.client.infer, "nobody", good)
        self.code("NOT_FOUND", self.client.infer, "clv", good, model_version="v9")
        wanted = [triton_grpc.InferRequestedOutput("no_such")]
        self.code("INVALID_ARGUMENT", self.client.infer, "clv", good, outputs=wanted)
        wrong = triton_grpc.InferInput("no_such", [3, 1], "FP32")
        wrong.set_data_from_numpy(np.ones((3, 1), np.float32))
        self.assertIn("is not known", self.code("INVALID_ARGUMENT", self.client.infer, "clv", [*good, wrong]))
        short = inputs(triton_grpc.InferInput)
        short[0]._raw_content = short[0]._raw_content[:-3]
        self.assertIn("elements", self.code("INVALID_ARGUMENT", self.client.infer, "clv", short))
        personal = {"customer_id": "+49 151 23456789"}
        told = self.code("INVALID_ARGUMENT", self.client.infer, "clv", good, parameters=personal)
        self.assertNotIn("151", told)

    def test_a_stream_is_not_answered(self):
        channel = grpc.insecure_channel(SERVER)
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        with self.assertRaises(grpc.RpcError) as caught:
            list(call(iter([service_pb2.ModelInferRequest(model_name="clv")])))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
        channel.close()

    def test_health_of_grpc_itself(self):
        channel = grpc.insecure_channel(SERVER)
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        self.assertEqual(check(b""), b"\x08\x01")
        self.assertEqual(check(b"\x0a\x03clv"), b"\x08\x01")
        with self.assertRaises(grpc.RpcError) as caught:
            check(b"\x0a\x06nobody")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        channel.close()


class Messages(unittest.TestCase):
    """The messages of the server against those that the client carries."""

    SCALARS = {"bool": 8, "int64": 3, "string": 9, "double": 1, "uint64": 4, "int32": 5, "uint32": 13, "float": 2}
    ELSEWHERE = {"HealthCheckRequest", "HealthCheckResponse"}

    def described(self, name):
        nested = {
            "TensorMetadata": "ModelMetadataResponse",
            "InferInputTensor": "ModelInferRequest",
            "InferRequestedOutputTensor": "ModelInferRequest",
            "InferOutputTensor": "ModelInferResponse",
            "ModelIndex": "RepositoryIndexResponse",
        }
        messages = service_pb2.DESCRIPTOR.message_types_by_name
        if name in nested:
            return messages[nested[name]].nested_types_by_name[name]
        return messages["InferParameter" if name == "ParameterChoice" else name]

    def test_fields_are_numbered_and_typed_alike(self):
        text = MESSAGES.read_text()
        compared = 0
        for name, body in re.findall(r"pub\(crate\) (?:struct|enum) (\w+) \{(.*?)\n\}", text, re.S):
            if name in self.ELSEWHERE:
                continue
            fields = self.described(name).fields_by_number
            for attribute, number, field in re.findall(r'#\[prost\((.*?)tag = "(\d+)"\)\]\s+(?:pub )?(\w+)', body):
                field = re.sub(r"(?<!^)([A-Z])", r"_\1", field).lower()
                theirs = fields[int(number)]
                self.assertEqual(theirs.name, field, name)
                repeated = "repeated" in attribute or "map" in attribute
                self.assertEqual(theirs.is_repeated, repeated, f"{name}.{field}")
                kind = attribute.split(",")[0].split("=")[0].strip()
                kind = {"message": 11, "map": 11, "bytes": 12}.get(kind) or self.SCALARS[kind]
                self.assertEqual(theirs.type, kind, f"{name}.{field}")
                compared += 1
        self.assertGreater(compared, 70)


if __name__ == "__main__":
    unittest.main(verbosity=2)
