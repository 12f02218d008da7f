"""Graphs built and run by OpenVINO; that they give Keras's feature maps stands in test_convolutions.py."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from covid_mm.errors import UsageError
from covid_mm.models import openvino_graph
from covid_mm.models.openvino_graph import OpenVinoGraph, other_allocator

ALLOCATOR = pytest.mark.skipif(
    bool(other_allocator()), reason="OpenVINO crashes under LD_PRELOAD's allocator"
)


@ALLOCATOR
def test_threads_get_the_answers_to_their_own_images():
    graph = OpenVinoGraph()
    image = graph.image(6, 2)
    doubled = graph.scale(image, np.full(2, 2, np.float32), np.array([0, 1], np.float32), "")
    pooled = graph.average_pool(doubled, 3, 3)

    def ask(value: int) -> None:
        for count in (1, 3):
            images = np.full((count, 6, 6, 2), value, np.float32)
            got, means = graph.run({image: images}, [doubled, pooled])
            np.testing.assert_array_equal(got, 2 * images + np.array([0, 1]))
            np.testing.assert_allclose(means, np.full((count, 2, 2, 2), 2 * value) + np.array([0, 1]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(40)))


@ALLOCATOR
def test_one_thread_runs_all_graphs_one_after_another(monkeypatch):
    openvino = openvino_graph.import_openvino()
    infer, running, seen = openvino.InferRequest.infer, [], []

    def watch(*arguments, **named):
        running.append(threading.get_ident())
        seen.append(tuple(running))
        time.sleep(0.01)
        try:
            return infer(*arguments, **named)
        finally:
            running.pop()

    monkeypatch.setattr(openvino.InferRequest, "infer", watch)
    images, jobs = np.ones((1, 4, 4, 1), np.float32), []
    for graph in (OpenVinoGraph(), OpenVinoGraph()):
        image = graph.image(4, 1)
        jobs.append(partial(graph.run, {image: images}, [graph.sigmoid(image)]))
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(job) for job in jobs * 4]
    for result in results:
        np.testing.assert_allclose(result.result()[0], 1 / (1 + np.exp(-images)), rtol=1e-5)
    assert len(seen) == 8
    assert {len(at_once) for at_once in seen} == {1}
    assert len(set(seen)) == 1


@ALLOCATOR
def test_an_image_of_another_shape_is_refused():
    graph = OpenVinoGraph()
    image = graph.image(6, 2)
    with pytest.raises(ValueError, match="OpenVINO refused"):
        graph.run({image: np.zeros((1, 5, 6, 2), np.float32)}, [graph.sigmoid(image)])


def test_under_another_allocator_it_is_refused_and_not_loaded(monkeypatch):
    openvino_graph.import_openvino.cache_clear()
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    with pytest.raises(UsageError, match=r"memory allocator .*libjemalloc.so.2"):
        OpenVinoGraph()
    openvino_graph.import_openvino.cache_clear()


def test_without_openvino_the_message_says_how_to_get_it(monkeypatch):
    openvino_graph.import_openvino.cache_clear()
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r"pip install covid-mm\[openvino\]"):
        OpenVinoGraph()
    openvino_graph.import_openvino.cache_clear()
