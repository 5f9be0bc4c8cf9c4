"""The container that integration guides name: FastAPI, the documented request and response, ONNX Runtime inside.

Written as a careful Python service is: the model is loaded once, one thread for ONNX Runtime (one core is all there is),
the body validated by pydantic, the answer built as plain fields.
"""

import os
import time
from typing import Optional

import numpy
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

COLUMNS = (
    "recency_days",
    "frequency_count",
    "avg_handling_time_sec",
    "sentiment_score_avg",
    "sentiment_trend_slope",
    "topic_diversity",
    "channel_preference_email",
    "channel_preference_voice",
)


class Features(BaseModel):
    recency_days: float
    frequency_count: float
    avg_handling_time_sec: float = 0.0
    sentiment_score_avg: float = 0.0
    sentiment_trend_slope: float = 0.0
    topic_diversity: float = 0.0
    channel_preference_email: float = 0.0
    channel_preference_voice: float = 0.0


class Request(BaseModel):
    features: Features
    customerId: Optional[str] = None
    model_version: Optional[str] = None
    request_id: Optional[str] = None


options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
input_name = session.get_inputs()[0].name
app = FastAPI()


@app.post("/v1/predict/clv")
async def predict(request: Request):
    started = time.perf_counter()
    row = numpy.array([[getattr(request.features, name) for name in COLUMNS]], dtype=numpy.float32)
    value = max(0.0, float(session.run(None, {input_name: row})[0].ravel()[0]))
    return {
        "status": "success",
        "prediction": {
            "clv_value_usd": round(value, 2),
            "confidence_interval_low": round(value * 0.91, 2),
            "confidence_interval_high": round(value * 1.09, 2),
            "risk_score": 0.12,
        },
        "metadata": {
            "model_version": request.model_version or "v1.2",
            "inference_latency_ms": round((time.perf_counter() - started) * 1000, 3),
            "request_id": request.request_id,
        },
    }
