"""Times the trees of benches/fixtures/lightgbm_200x31.onnx, row by row on one thread, in libraries that compile or run
them, and in scoreline where its bench has been built.

    pip install -r requirements.txt     # beside this file; gcc is needed too
    cargo bench --profile dist --bench inference --no-run
    python trees.py [--bench PATH]      # PATH: the built bench; the newest under target/dist/deps by default

lleaves, tl2cgen and LightGBM are called from a loop in C (trees.c) through pointers to their own functions: no Python
between two rows. ONNX Runtime has no such function in its wheel and is called through its Python binding, with bound
inputs and outputs; the bench calls it from Rust. Every library must give LightGBM's answers before it is timed.
"""

import argparse
import ctypes
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import lightgbm
import lleaves
import numpy
import onnxruntime
import tl2cgen
import treelite

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
ROOT = HERE.parent.parent
ROWS, ROUNDS = 16_384, 15

sys.path.insert(0, str(FIXTURES))
import make  # noqa: E402


def rows():
    """The rows of benches/inference.rs: about normal, as in training, many, and drawn anew for each column. On rows whose
    columns were shifts of one sequence compiled trees were up to three times faster; a branch predictor that learns the
    sequence would explain it, which was not tested.
    """
    state = numpy.arange(1, ROWS * 8 * 4 + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
    # splitmix64 (Steele, Lea & Flood 2014).
    state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    state ^= state >> numpy.uint64(31)
    uniform = (state >> numpy.uint64(11)).astype(numpy.float64) / 2.0**53
    return (uniform.reshape(ROWS, 8, 4).sum(axis=2) - 2.0) * numpy.sqrt(3.0)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def compile_c(source, library, *options):
    subprocess.run(["gcc", "-shared", "-fPIC", *options, str(source), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bench", type=pathlib.Path, help="the built `inference` bench")
    arguments = arguments.parse_args()
    data = numpy.ascontiguousarray(rows())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = make.train()
        model.booster_.save_model(folder / "model.txt")
        expected = model.predict(data)
        loop = compile_c(HERE / "trees.c", folder / "loop.so", "-O2")
        for function in (loop.time_lleaves, loop.time_tl2cgen, loop.time_lightgbm):
            function.restype = ctypes.c_double
        table = []

        def report(name, nanoseconds, answers, tolerance):
            worst = numpy.abs(answers - expected).max()
            if not worst <= tolerance:
                sys.exit(f"{name} is off by {worst}")
            table.append((name, nanoseconds, worst))

        for double in (True, False):
            kind = numpy.float64 if double else numpy.float32
            compiled = lleaves.Model(str(folder / "model.txt"))
            # Cache blocking only costs when there is one row.
            compiled.compile(use_fp64=double, fblocksize=compiled.num_trees())
            given, out = data.astype(kind), numpy.zeros(ROWS, kind)
            entry = ctypes.cast(compiled._c_entry_func, ctypes.c_void_p)
            took = loop.time_lleaves(entry, pointer(given), pointer(out), ROWS, ROUNDS)
            report(f"lleaves {lleaves_version()}, {'f64' if double else 'f32'}", took, out, 1e-9 if double else 1e-3)

        forest = treelite.frontend.load_lightgbm_model(folder / "model.txt")
        for level in ("-O2", "-O3 -march=native"):
            source = folder / "c"
            tl2cgen.generate_c_code(forest, source, {})
            library = compile_c(source / "main.c", folder / f"tl{len(level)}.so", *level.split())
            out = numpy.zeros(ROWS)
            entry = ctypes.cast(library.predict, ctypes.c_void_p)
            took = loop.time_tl2cgen(entry, pointer(data), pointer(out), 8, ROWS, ROUNDS)
            report(f"tl2cgen {tl2cgen.__version__}, gcc {level}", took, out, 1e-9)

        out = numpy.zeros(ROWS)
        fast, native = lightgbm_fast(model)
        entry = ctypes.cast(native.LGBM_BoosterPredictForMatSingleRowFast, ctypes.c_void_p)
        took = loop.time_lightgbm(entry, fast, pointer(data), pointer(out), 8, ROWS, ROUNDS)
        report(f"LightGBM {lightgbm.__version__}, single row fast", took, out, 1e-9)
        took, answers = onnx_runtime(data)
        report(f"ONNX Runtime {onnxruntime.__version__}, Python binding", took, answers, 1e-3)
        ours = scoreline(arguments.bench)
    print(f"{'':<44}{'ns per row':>12}{'  largest difference':>20}")
    for name, took, worst in table:
        print(f"{name:<44}{took:>12.0f}{worst:>20.1e}")
    if ours is None:
        print("scoreline: no built bench found")
        return
    print(f"{'scoreline, through its backend':<44}{ours:>12.0f}")
    best = min(took for name, took, _ in table if name.startswith(("lleaves", "tl2cgen")))
    print(f"the best compiled-tree library takes {best / ours:.1f} x as long")


def lleaves_version():
    from importlib.metadata import version

    return version("lleaves")


def lightgbm_fast(model):
    """LightGBM's handle for single rows of eight doubles, on one thread."""
    native = lightgbm.basic._LIB
    handle = ctypes.c_void_p()
    status = native.LGBM_BoosterPredictForMatSingleRowFastInit(
        model.booster_._handle, ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(1), ctypes.c_int32(8),
        ctypes.c_char_p(b"num_threads=1"), ctypes.byref(handle),
    )
    if status != 0:
        sys.exit("LightGBM refused a single-row handle")
    return handle, native


def onnx_runtime(data):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(FIXTURES / "lightgbm_200x31.onnx"), options, providers=["CPUExecutionProvider"]
    )
    given, out, answers = numpy.zeros((1, 8), numpy.float32), numpy.zeros((1, 1), numpy.float32), numpy.zeros(ROWS)
    binding = session.io_binding()
    binding.bind_input("features", "cpu", 0, numpy.float32, given.shape, given.ctypes.data)
    binding.bind_output("variable", "cpu", 0, numpy.float32, out.shape, out.ctypes.data)
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for number, row in enumerate(data):
            given[0] = row
            session.run_with_iobinding(binding)
            answers[number] = out[0, 0]
        rounds.append((time.perf_counter_ns() - start) / ROWS)
    return statistics.median(rounds), answers


def scoreline(bench):
    """Nanoseconds per row as the bench says, asked for its native trees alone; `None` where it is not built."""
    if bench is None:
        built = [path for path in ROOT.glob("target/dist/deps/inference-*") if path.suffix == ""]
        bench = max(built, key=lambda path: path.stat().st_mtime, default=None)
    if bench is None:
        return None
    said = subprocess.run([bench, "--rows-of-trees"], check=True, capture_output=True, text=True).stdout
    return float(next(line for line in said.splitlines() if line.startswith("trees_200x31, one row:")).split()[3])


if __name__ == "__main__":
    main()
