"""Batch scores beside what people use for them: a table in Parquet, in; with a prediction for each row, in Parquet, out.

    SCORELINE_BINARY=target/dist/scoreline python benches/peers/batch.py [--rows 2000000] [--only NAME ...]

The packages are those of training/python/requirements.txt and python/requirements*.txt; Spark needs Java 17. Every peer has the
same 200 trees of LightGBM, scoreline the calibrated bundle around them: it also gives an interval, a risk, a confidence, a
tier and warnings. Each is a process of its own. `seconds` is from the file to the file, without starting an interpreter
or a session; `whole` is with that; `peak` is the memory of the process and its children together, looked at every 20 ms.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2] / "python"))
FEATURES = [
    "recency_days",
    "purchase_count",
    "tenure_days",
    "monetary_avg",
    "total_spend_usd",
    "purchase_gap_mean_days",
]


def customers(rows, seed):
    """Generated customers, and what they spend."""
    import numpy as np
    import pandas as pd

    chance = np.random.default_rng(seed)
    tenure = chance.integers(60, 400, rows).astype(float)
    recency = np.floor(tenure * chance.uniform(0, 1, rows))
    count = 1.0 + chance.poisson(2.0, rows)
    average = np.round(chance.lognormal(3.2, 0.4, rows), 2)
    gap = np.where(count > 1, np.floor((tenure - recency) / np.maximum(count - 1, 1)), np.nan)
    columns = (recency, count, tenure, average, np.round(average * count, 2), gap)
    buys = chance.uniform(size=rows) < 1 / (1 + np.exp(recency / 100 - count / 2))
    return pd.DataFrame(dict(zip(FEATURES, columns))), np.round(
        average * count * 0.5 * chance.gamma(0.8, 1 / 0.8, rows) * buys, 2
    )


def prepare(folder, rows):
    """The model in each peer's form, and the table."""
    import lightgbm
    import onnxmltools
    import pyarrow as pa
    import pyarrow.parquet
    from onnxmltools.convert.common.data_types import FloatTensorType

    import scoreline

    X, y = customers(20_000, 1)
    model = lightgbm.LGBMRegressor(n_estimators=200, num_leaves=31, learning_rate=0.05, verbose=-1).fit(X, y)
    model.booster_.save_model(folder / "model.txt")
    made = onnxmltools.convert_lightgbm(
        model, initial_types=[("features", FloatTensorType([None, len(FEATURES)]))], target_opset=15
    )
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    X_cal, y_cal = customers(8000, 2)
    scoreline.pack(
        model, X_cal, y_cal, X_train=X, y_train=y, name="clv", version="v1", horizon_days=90, out=folder / "models"
    )
    with pa.parquet.ParquetWriter(folder / "in.parquet", pa.Schema.from_pandas(X, preserve_index=False)) as writer:
        for start in range(0, rows, 200_000):
            X, _ = customers(min(200_000, rows - start), 100 + start)
            writer.write_table(pa.Table.from_pandas(X, preserve_index=False))


def lightgbm_in_pandas(folder, out):
    import lightgbm
    import pandas as pd

    def run():
        frame = pd.read_parquet(folder / "in.parquet")
        frame["clv"] = lightgbm.Booster(model_file=folder / "model.txt").predict(frame)
        frame.to_parquet(out)

    return run


def onnxruntime_in_python(folder, out):
    import numpy as np
    import onnxruntime
    import pandas as pd

    def run():
        frame = pd.read_parquet(folder / "in.parquet")
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        rows = frame.to_numpy(np.float32)
        parts = [session.run(None, {"features": rows[at : at + 100_000]})[0] for at in range(0, len(rows), 100_000)]
        frame["clv"] = np.concatenate(parts).reshape(-1)
        frame.to_parquet(out)

    return run


def _spark(folder, out, model):
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    cores = os.cpu_count()
    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "2g", "spark.ui.showConsoleProgress": "false"}
    session = SparkSession.builder.master(f"local[{cores}]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    frame = session.read.parquet(str(folder / "in.parquet"))
    return lambda: model(frame).write.mode("overwrite").parquet(str(out))


def lightgbm_in_spark(folder, out):
    def model(frame):
        import lightgbm
        from pyspark.sql.types import DoubleType, StructField, StructType

        text = (folder / "model.txt").read_text()

        def score(batches):
            import pyarrow as pa

            booster = lightgbm.Booster(model_str=text)
            for batch in batches:
                said = booster.predict(batch.to_pandas(), num_threads=1)
                yield pa.RecordBatch.from_arrays([*batch.columns, pa.array(said)], names=[*batch.schema.names, "clv"])

        return frame.mapInArrow(score, StructType([*frame.schema.fields, StructField("clv", DoubleType())]))

    return _spark(folder, out, model)


def scoreline_in_spark(folder, out):
    import scoreline

    function = scoreline.arrow_function(bundle=folder / "models/clv/v1", threads=1)
    return _spark(folder, out, lambda frame: frame.mapInArrow(function, function.schema(frame.schema)))


def scoreline_in_pandas(folder, out):
    import pandas as pd

    import scoreline

    return lambda: scoreline.score(pd.read_parquet(folder / "in.parquet"), bundle=folder / "models/clv/v1").to_parquet(
        out
    )


def scoreline_in_polars(folder, out):
    import polars

    import scoreline

    return lambda: scoreline.score(
        polars.read_parquet(folder / "in.parquet"), bundle=folder / "models/clv/v1"
    ).write_parquet(out)


def scoreline_score(folder, out):
    import scoreline

    command = [scoreline.program(), "score", "--quiet", "--input", str(folder / "in.parquet"), "--output", str(out)]
    env = dict(os.environ, SCORELINE__MODELS__DIR=str(folder / "models"))
    return lambda: subprocess.run(command, env=env, check=True)


PEERS = {
    "scoreline score": scoreline_score,
    "scoreline in pandas": scoreline_in_pandas,
    "scoreline in Polars": scoreline_in_polars,
    "scoreline in Spark": scoreline_in_spark,
    "LightGBM in pandas": lightgbm_in_pandas,
    "ONNX Runtime in Python": onnxruntime_in_python,
    "LightGBM in Spark": lightgbm_in_spark,
}


def measured(name, folder):
    """Seconds inside, seconds in all, and peak memory of the process with its children."""
    began = time.monotonic()
    command = [sys.executable, str(HERE), "--peer", name, "--folder", str(folder)]
    env = dict(os.environ, PYTHONPATH=str(HERE.parents[2] / "python"))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    peak = 0

    def watch():
        nonlocal peak
        while child.poll() is None:
            peak = max(peak, memory(child.pid))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said, problems = child.communicate()
    watcher.join()
    if child.returncode != 0:
        raise SystemExit(f"{name}: {problems[-2000:]}")
    return json.loads(said.strip().splitlines()[-1]), time.monotonic() - began, peak


def memory(root):
    """Resident bytes of a process and all below it. Pages that several share count for each."""
    parents, sizes = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)], sizes[int(entry.name)] = int(fields[1]), int(fields[21])
    total = 0
    for process, size in sizes.items():
        at = process
        while at not in (root, 0):
            at = parents.get(at, 0)
        total += size if at == root else 0
    return total * os.sysconf("SC_PAGE_SIZE")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run = PEERS[options.peer](options.folder, options.folder / f"{options.peer}.parquet")
        began = time.monotonic()
        run()
        print(json.dumps(time.monotonic() - began))
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        prepare(folder, options.rows)
        print(
            f"| {options.rows:,} rows, {os.cpu_count()} cores | rows/s | seconds | whole | peak |\n|---|---|---|---|---|"
        )
        for name in options.only:
            seconds, whole, peak = measured(name, folder)
            print(
                f"| {name} | {options.rows / seconds:,.0f} | {seconds:.2f} | {whole:.2f} | {peak / 1e6:,.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
