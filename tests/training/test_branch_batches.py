"""Batches of a branch: balanced, the same for seed and step whoever prepares them, other bodies, drawn opacities."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from made_crops import SIZE, make_samples

from covid_mm.training.branch_batches import (
    BatchMaker,
    BranchConfig,
    BranchSamples,
    draw_batch,
    prepare_batches,
)


def uneven_samples(counts, hosts_of=()):
    """Rows of {(source, label): how many}; normal images of the sources `hosts_of` are hosts."""
    sources, labels = (
        np.repeat([key[part] for key in counts], list(counts.values())).astype(np.int64) for part in (0, 1)
    )
    empty = np.zeros((len(labels), 1, 1), np.uint8)
    hosts = (labels == 0) & np.isin(sources, list(hosts_of))
    return BranchSamples(empty, empty, labels, sources, empty, labels == 0, hosts)


def draw_many(samples, **options):
    config = BranchConfig(batch_size=20, **options)
    return np.stack([draw_batch(samples, config, step).rows for step in range(100)])


def test_batches_are_balanced_by_class_and_by_source():
    samples = uneven_samples({(0, 0): 300, (0, 1): 20, (1, 0): 5, (1, 1): 10})
    rows = draw_many(samples, balance=0.0)
    assert (samples.labels[rows].sum(axis=1) == 10).all()  # each batch
    share = samples.sources[rows].mean()
    assert share == pytest.approx(0.5, abs=0.05)
    for source in (0, 1):  # in each source too, so that no source stands for a class
        assert samples.labels[rows][samples.sources[rows] == source].mean() == pytest.approx(0.5, abs=0.05)
    middle = samples.sources[draw_many(samples, balance=0.5)].mean()
    plain = samples.sources[draw_many(samples, balance=1.0)].mean()
    assert plain == pytest.approx(15 / 335, abs=0.02)
    assert plain < middle < share


def test_a_source_without_a_class_never_stands_for_it():
    samples = uneven_samples({(0, 0): 8, (0, 1): 8, (1, 0): 8})
    rows = draw_many(samples, balance=0.0)
    assert (samples.labels[rows].sum(axis=1) == 10).all()
    assert set(samples.sources[rows][samples.labels[rows] == 1]) == {0}


def test_a_batch_is_the_same_for_seed_and_step():
    samples = uneven_samples({(0, 0): 50, (0, 1): 50})
    config = BranchConfig(batch_size=20)
    first, second = (draw_batch(samples, config, 3) for _ in range(2))
    assert np.array_equal(first.rows, second.rows)
    others = [draw_batch(samples, config, 4), draw_batch(samples, dataclasses.replace(config, seed=1), 3)]
    assert all(not np.array_equal(first.rows, other.rows) for other in others)


def test_opacities_are_drawn_on_hosts_for_positive_places_only():
    """Always in a source without positive images, else for the share `drawn`."""
    samples = uneven_samples({(0, 0): 30, (0, 1): 30, (1, 0): 30}, hosts_of=(0, 1))
    config = BranchConfig(batch_size=20, balance=0.0, drawn=0.2)
    draws = [draw_batch(samples, config, step) for step in range(100)]
    rows, drawn = (np.stack([getattr(draw, name) for draw in draws]) for name in ("rows", "drawn"))
    assert samples.hosts[rows[drawn]].all()
    positive = drawn | (samples.labels[rows] == 1)
    assert (positive.sum(axis=1) == 10).all()
    for source in (0, 1):
        assert positive[samples.sources[rows] == source].mean() == pytest.approx(0.5, abs=0.05)
    both = (samples.sources[rows] == 0) & positive
    assert drawn[both].mean() == pytest.approx(0.2, abs=0.06)
    assert not draw_batch(uneven_samples({(0, 0): 9, (0, 1): 9}), config, 0).drawn.any()


def test_drawn_images_are_positive_and_located():
    """What a batch says of an image with drawn opacities; the crop itself is not changed."""
    made = make_samples()
    lungs = np.full_like(made.crops, 45)
    samples = dataclasses.replace(
        made,
        crops=lungs,
        labels=0 * made.labels,
        hosts=np.ones(12, bool),
        located=np.ones(12, bool),
        targets=np.zeros_like(made.targets),
    )
    config = BranchConfig(steps=1, batch_size=8, balance=0.0, augmented=False)
    images, labels, targets, located = next(
        prepare_batches(BatchMaker(samples, config, "ct", SIZE, (4, 4)), 0)
    )
    assert labels.tolist().count(1) == 4
    assert located.all()
    assert (targets.reshape(8, -1).max(axis=1) > 0).tolist() == (labels == 1).tolist()
    assert (images.reshape(8, -1).max(axis=1) > 46).tolist() == (labels == 1).tolist()
    assert (samples.crops == 45).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_lungs_are_shown_in_the_bodies_of_other_images(share):
    """Corners of an image are another's where all are exchanged; its lungs and its label are its own."""
    made = make_samples()
    greys = (20 * np.arange(12, dtype=np.uint8))[:, None, None]
    lungs = np.zeros_like(made.crops)
    middle = slice(lungs.shape[1] // 4, 3 * lungs.shape[1] // 4)
    lungs[:, middle, middle] = 255
    samples = dataclasses.replace(made, crops=np.zeros_like(made.crops) + greys, lungs=lungs)
    config = BranchConfig(steps=1, batch_size=12, exchanged=share, augmented=False)
    images, labels, _, _ = next(prepare_batches(BatchMaker(samples, config, "ct", SIZE, (4, 4)), 0))
    rows = draw_batch(samples, config, 0).rows
    np.testing.assert_array_equal(images[:, SIZE // 2, SIZE // 2], greys[rows, 0, 0])
    np.testing.assert_array_equal(labels, samples.labels[rows])
    others = (images[:, 0, 0] != greys[rows, 0, 0]).sum()
    assert others > 6 if share else others == 0


def test_the_share_that_is_mild_stays_near_the_image_and_in_its_body():
    made = make_samples()
    lungs = np.zeros_like(made.crops)
    lungs[:, 20:60, 20:60] = 255
    samples = dataclasses.replace(made, lungs=lungs)
    maker = BatchMaker(samples, BranchConfig(steps=40, batch_size=12, exchanged=1.0), "ct", SIZE, (4, 4))

    def images_of(**options):
        varied = dataclasses.replace(maker, config=dataclasses.replace(maker.config, **options))
        return np.concatenate([varied(step)[0] for step in range(40)])

    plain = images_of(augmented=False, exchanged=0.0)
    strong, half, mild = (
        np.abs(images_of(mild=share) - plain).mean(axis=(1, 2)) for share in (0.0, 0.5, 1.0)
    )
    assert mild.mean() < half.mean() < strong.mean()
    assert mild.mean() < 0.6 * strong.mean()
    own = images_of(mild=1.0)
    np.testing.assert_array_equal(own, images_of(mild=1.0, exchanged=0.0))  # no other body in it


def test_processes_prepare_what_threads_prepare(tmp_path, monkeypatch):
    """From any step on, and their files are gone however the training ends."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    maker = BatchMaker(make_samples(), BranchConfig(steps=9, batch_size=4), "ct", SIZE, (4, 4))
    expected = list(prepare_batches(maker, 2))
    got = list(prepare_batches(maker, 2, processes=2))
    assert len(got) == len(expected) == 7
    for ours, theirs in zip(got, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    batches = prepare_batches(maker, 0, processes=2)
    next(batches)
    batches.close()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_prepares_batches_loads_no_framework():
    code = (
        "import sys, covid_mm.training.branch_batches\n"
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
