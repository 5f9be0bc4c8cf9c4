"""kserve (REST, gRPC, and its models of the serving runtime) against a running server. It cannot live in one process with
tritonclient: both bring the messages of the protocol.

usage: serving.py HOST:PORT
"""

import asyncio
import json
import unittest
from pathlib import Path

import grpc
import kserve
import kserve.models
import kubernetes.client
import numpy as np
import yaml
from answers import FEATURES, SERVER, Same, column
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

RUNTIME = Path(__file__).resolve().parents[2] / "integrations/kserve/runtime.yaml"


class KServe(Same):
    def request(self, binary):
        made = []
        for name in FEATURES:
            values = column(name, np.float64)
            tensor = InferInput(name, list(values.shape), "FP64")
            if binary:
                tensor.set_data_from_numpy(values, binary_data=True)
            else:
                tensor = InferInput(name, list(values.shape), "FP64", [None if np.isnan(it) else it for it in values[:, 0].tolist()])
            made.append(tensor)
        return InferRequest(model_name="clv", infer_inputs=made)

    def test_rest(self):
        async def ask():
            client = InferenceRESTClient(RESTConfig(protocol="v2"))
            base = f"http://{SERVER}"
            self.assertTrue(await client.is_server_live(base) and await client.is_server_ready(base))
            self.assertTrue(await client.is_model_ready(base, "clv"))
            self.assertFalse(await client.is_model_ready(base, "nobody"))
            for binary in [False, True]:
                answer = await client.infer(base, self.request(binary), model_name="clv")
                by_name = {output.name: output for output in answer.outputs}
                self.same(lambda name: by_name[name].as_numpy())
            await client.close()

        asyncio.run(ask())

    def test_grpc(self):
        async def ask():
            async with InferenceGRPCClient(SERVER) as client:
                self.assertTrue(await client.is_server_live() and await client.is_server_ready())
                self.assertTrue(await client.is_model_ready("clv"))
                answer = await client.infer(self.request(True))
                raw = {output.name: output for output in answer.outputs}
                self.same(lambda name: raw[name].as_numpy())
                # Lists: what is not known cannot be said in them but by NaN.
                request = InferRequest(
                    model_name="clv",
                    infer_inputs=[InferInput(name, [3, 1], "FP64", column(name, np.float64)[:, 0].tolist()) for name in FEATURES],
                )
                lists = {output.name: output for output in (await client.infer(request)).outputs}
                self.assertEqual(len(lists["clv_value_usd"].data), 3)
                self.same(lambda name: lists[name].as_numpy())
                with self.assertRaises(grpc.RpcError) as caught:
                    await client.infer(InferRequest(model_name="nobody", infer_inputs=request.inputs))
                self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

        asyncio.run(ask())

    def test_serving_runtime(self):
        document = yaml.safe_load(RUNTIME.read_text())
        # The models of KServe: what they do not know is lost on the way there and back. Those of Kubernetes that they are made
        # of are passed through, and compared by its own client.
        for name in ["V1ObjectMeta", "V1Container", "V1Volume"]:
            setattr(kserve.models, name, object)
        runtime = kserve.ApiClient().deserialize(Written(document), "V1alpha1ServingRuntime")
        self.assertIsInstance(runtime, kserve.V1alpha1ServingRuntime)
        self.assertEqual(kserve.ApiClient().sanitize_for_serialization(runtime), document)
        pod = {name: document["spec"][name] for name in ["containers", "volumes"]}
        client = kubernetes.client.ApiClient()
        self.assertEqual(client.sanitize_for_serialization(client.deserialize(json.dumps(pod), "V1PodSpec", "application/json")), pod)


class Written:
    """An object as a server would write it."""

    def __init__(self, written):
        self.data = json.dumps(written)


if __name__ == "__main__":
    unittest.main(verbosity=2)
