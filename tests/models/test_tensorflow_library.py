"""Graphs built and run by TensorFlow's C interface."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from covid_mm.models import tensorflow_library
from covid_mm.models.tensorflow_library import Graph, LibraryUnavailable, load_library


@pytest.fixture
def fresh_library():
    tensorflow_library.open_library.cache_clear()
    yield
    tensorflow_library.open_library.cache_clear()


def test_operations_of_every_attribute_give_what_numpy_gives():
    graph = Graph()
    image = graph.placeholder((None, 4, 4, 2))
    factors = graph.constant(np.array([2.0, -1.0], np.float32))
    around = graph.constant(np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.int32))
    padded = graph.add("Pad", graph.add("Mul", image, factors), around)
    joined = graph.add("ConcatV2", [padded, padded], graph.constant(np.array(-1, np.int32)))
    pooled = graph.add("MaxPool", joined, ksize=[1, 5, 5, 1], strides=[1, 1, 1, 1], padding="VALID")
    leaky = graph.add("LeakyRelu", joined, alpha=0.5)
    values = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    expected = np.pad(values * [2.0, -1.0], ((0, 0), (1, 0), (0, 1), (0, 0)))
    expected = np.concatenate([expected, expected], axis=-1)
    got, highest, leaked = graph.run({image: values}, [joined, pooled, leaky])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(highest[:, 0, 0], expected.max(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(leaked, np.where(expected > 0, expected, expected / 2), atol=1e-6)
    assert got.dtype == np.float32


def test_shapes_are_known_before_a_graph_runs():
    graph = Graph()
    image = graph.placeholder((None, 5, 4, 2))
    halved = graph.add("MaxPool", image, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
    assert graph.shape(image) == (None, 5, 4, 2)
    assert graph.shape(halved) == (None, 2, 2, 2)
    assert graph.shape(graph.constant(np.zeros(3, np.float32))) == (3,)


def test_what_tensorflow_refuses_is_an_error():
    graph = Graph()
    image = graph.placeholder((None, None))
    with pytest.raises(ValueError, match=r"TensorFlow refused: .*NoSuchOperation"):
        graph.add("NoSuchOperation", image)
    product = graph.add("MatMul", image, graph.constant(np.ones((2, 5), np.float32)))
    with pytest.raises(ValueError, match="TensorFlow refused"):
        graph.run({image: np.zeros((1, 3), np.float32)}, [product])
    assert graph.run({image: np.ones((1, 2), np.float32)}, [product])[0].tolist() == [[2.0] * 5]


ENDS_WHILE_RUNNING = """
import threading
import numpy as np
from covid_mm.models.tensorflow_library import Graph

graph = Graph()
image = graph.placeholder((None, 600))
product = image
for _ in range(60):
    product = graph.add("MatMul", product, graph.constant(np.ones((600, 600), np.float32)))
begun = threading.Event()

def run():
    while True:
        graph.run({image: np.zeros((200, 600), np.float32)}, [product])
        begun.set()

for _ in range(3):
    threading.Thread(target=run, daemon=True).start()
assert begun.wait(60)
"""


def test_a_program_ends_while_a_thread_runs_a_graph():
    """It crashed, or hung, when the session was deleted under the thread."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", ENDS_WHILE_RUNNING],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_what_libraries_print_is_dropped_and_what_python_prints_is_not():
    code = (
        "import os, sys\n"
        "from covid_mm.models.tensorflow_library import silence_library\n"
        "with silence_library():\n"
        "    os.write(2, b'native ')\n"
        "    print('said meanwhile', file=sys.stderr)\n"
        "os.write(2, b'native afterwards ')\n"
        "print('said afterwards', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "said meanwhile\nnative afterwards said afterwards\n"


@pytest.mark.parametrize("reason", ["gpu", "platform", "library", "function"])
def test_where_it_cannot_be_used_the_reason_is_told(fresh_library, monkeypatch, tmp_path, reason):
    if reason == "gpu":
        monkeypatch.setattr(tensorflow_library, "_GPU_DEVICES", (str(tmp_path),))
    elif reason == "platform":
        monkeypatch.setattr(tensorflow_library, "_FILES", {})
    elif reason == "library":
        monkeypatch.setattr(tensorflow_library, "_FILES", {sys.platform: ("nowhere.so",)})
    else:
        monkeypatch.setitem(tensorflow_library.SIGNATURES, "TF_NotThere", (None,))
    with pytest.raises(LibraryUnavailable):
        load_library()


def test_tensorflow_can_be_imported_behind_it():
    code = (
        "from covid_mm.models.tensorflow_library import start_library; start_library()\n"
        "import sys; assert 'tensorflow' not in sys.modules\n"
        "import tensorflow as tf; print(float(tf.nn.relu(tf.constant(2.0))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2.0", done.stderr
