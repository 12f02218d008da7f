"""The recipe of the served network: folds, nothing of a fold in training, no source that stands for a class."""

from __future__ import annotations

import numpy as np
import pytest
from made_crops import make_collection, make_crops_of

from covid_mm.errors import DataError
from covid_mm.training.crops import OTHER
from covid_mm.training.recipe import (
    Refinement,
    ServedRecipe,
    choose_training_rows,
    gather_samples,
    make_folds,
    trainable,
)


def film_collection(sites=6, per_site=8, name="films"):
    """Both classes at every site, a third class too, two films a patient."""
    count = sites * per_site
    return make_collection(
        name,
        [(0, 1, 0, 1, 0, 1, None, 0)[row % 8] for row in range(count)],
        modality="xray",
        patients=[f"{name}-{row // 2}" for row in range(count)],
        sites=[f"site-{row // per_site}" for row in range(count)],
    )


def choose(collections, fold, **options):
    return choose_training_rows(collections, {c.name: make_crops_of(c) for c in collections}, fold, **options)


def test_each_two_class_collection_is_left_out_in_turn():
    collections = [
        make_collection("one", [0, 1, 0, 1]),
        make_collection("two", [0, 0, 1]),
        make_collection("normal-only", [0, 0]),
        make_collection("other-only", [None, None]),
    ]
    folds = make_folds(collections)
    assert [fold.name for fold in folds] == ["one", "two"]
    left_out = [name for fold in folds for name in fold.rows]
    assert sorted(left_out) == ["normal-only", "one", "two"]  # each exactly once
    assert all(rows.all() for fold in folds for rows in fold.rows.values())
    for fold in folds:
        rows = choose(collections, fold)
        assert not any(rows[name].any() for name in fold.rows)
        assert set(rows) == {"one", "two", "normal-only"}


def test_films_are_left_out_by_groups_of_scanners():
    collection = film_collection()
    folds = make_folds([collection])
    assert [fold.name for fold in folds] == [f"films-scanners-{group}" for group in (1, 2, 3)]
    rows = np.stack([fold.rows["films"] for fold in folds])
    assert (rows.sum(axis=0) == 1).all()
    sites = np.array([image.site for image in collection.images])
    labels = np.array([-1 if image.label is None else image.label for image in collection.images])
    for row in rows:
        assert not set(sites[row]) & set(sites[~row])
        assert {0, 1} <= set(labels[row])


def test_sites_whose_classes_cannot_be_spread_are_left_out_together():
    labels = [1, 0, 0, 0, 0, 0, 0]
    collection = make_collection("lopsided", labels, modality="xray", sites=list("abcdefg"))
    (fold,) = make_folds([collection])
    assert fold.name == "lopsided"
    assert fold.rows["lopsided"].all()


def test_patients_of_the_fold_never_train():
    first = film_collection()
    # the second image of each patient is filed under another site
    patients = [f"p{row % 20}" for row in range(len(first.images))]
    mixed = make_collection(
        "films",
        [image.label for image in first.images],
        modality="xray",
        patients=patients,
        sites=[image.site for image in first.images],
    )
    elsewhere = make_collection("more", [0, 1, 0, 1], modality="xray", patients=["p0", "p1", "new", ""])
    for fold in make_folds([mixed, elsewhere]):
        rows = choose([mixed, elsewhere], fold)
        hidden, learned = set(), set()
        for collection in (mixed, elsewhere):
            out = fold.rows.get(collection.name, np.zeros(len(collection.images), bool))
            for image, is_out, trains in zip(collection.images, out, rows[collection.name], strict=True):
                assert not (is_out and trains)
                hidden |= {image.patient} if is_out and image.patient else set()
                learned |= {image.patient} if trains and image.patient else set()
        assert hidden
        assert not hidden & learned


def test_one_class_films_never_train_but_normal_slices_do():
    """Opacities are drawn on slices only; a source of normal films would teach that it is negative."""
    films = [film_collection(), make_collection("normal-films", [0] * 5, modality="xray")]
    slices = [make_collection("slices", [0, 1]), make_collection("normal-slices", [0] * 5)]
    ill = [make_collection("ill-films", [1] * 5, modality="xray"), make_collection("ill-slices", [1] * 5)]
    assert [c.name for c in trainable([*films, *slices, *ill])] == ["films", "slices", "normal-slices"]
    assert set(choose(films, None)) == {"films"}
    assert set(choose(slices, None)) == {"slices", "normal-slices"}


def test_what_shows_no_lungs_or_neither_class_does_not_train():
    collection = make_collection("one", [0, 1, None, 0, 1])
    crops = make_crops_of(collection)
    crops.has_lungs[0] = False
    assert crops.labels[2] == OTHER
    rows = choose_training_rows([collection], {"one": crops}, None)
    assert rows["one"].tolist() == [False, True, False, True, True]
    held_out = frozenset({collection.images[4].path})
    rows = choose_training_rows([collection], {"one": crops}, None, held_out)
    assert rows["one"].tolist() == [False, True, False, True, False]


def test_samples_carry_a_number_for_each_source():
    sites = ["big"] * 50 + ["small"] * 3 + ["smaller"] * 3
    films = make_collection("films", [row % 2 for row in range(56)], modality="xray", sites=sites)
    other = make_collection("other", [0, 1], modality="xray")
    crops = {c.name: make_crops_of(c, seed) for seed, c in enumerate((films, other))}
    samples = gather_samples([films, other], crops, choose([films, other], None))
    assert len(samples.labels) == len(samples.crops) == len(samples.targets) == len(samples.located) == 58
    assert samples.crops.dtype == samples.targets.dtype == np.uint8
    sources = samples.sources
    assert len(set(sources[:50])) == len(set(sources[50:56])) == len(set(sources[56:])) == 1
    assert len(set(sources)) == 3
    assert np.array_equal(samples.crops[56:], crops["other"].wide)
    assert not samples.hosts.any()
    chosen = {"films": np.arange(56) < 4, "other": np.zeros(2, bool)}
    assert np.array_equal(gather_samples([films, other], crops, chosen).crops, crops["films"].wide[:4])


def test_normal_slices_are_hosts():
    collection = make_collection("slices", [0, 1, 0])
    samples = gather_samples([collection], {"slices": make_crops_of(collection)}, choose([collection], None))
    assert samples.hosts.tolist() == [True, False, True]


def test_nothing_left_to_learn_from_is_said():
    collection = make_collection("only", [0, 1, 0, 1])
    (fold,) = make_folds([collection])
    with pytest.raises(DataError, match=r"both classes .* \(0 normal, 0 positive\) in only"):
        gather_samples([collection], {"only": make_crops_of(collection)}, choose([collection], fold))


def test_a_branch_has_its_modalitys_steps_and_its_backbones_frozen_layers():
    recipe = ServedRecipe(steps={"slice": 5, "film": 9})
    ct = recipe.branch_config("ct", "densenet121", 3, images=1000)
    film = recipe.branch_config("xray", "vgg16", 3, images=1000)
    assert (ct.steps, film.steps, ct.seed) == (5, 9, 3)
    assert ct.frozen_until == "pool3_pool"
    assert film.frozen_until is None


def test_few_images_get_fewer_steps():
    recipe = ServedRecipe(steps={"slice": 1000, "film": 1000}, most_draws=16)
    size = recipe.branch.batch_size
    assert recipe.branch_config("ct", "densenet121", 0, images=10 * size).steps == 160
    assert recipe.branch_config("ct", "densenet121", 0, images=1000 * size).steps == 1000
    assert recipe.branch_config("ct", "densenet121", 0, images=1).steps == 1


def test_steps_are_whole_calls_of_the_compiled_loop():
    recipe = ServedRecipe(steps={"slice": 1000, "film": 1000}, most_draws=1)
    size = recipe.branch.batch_size
    assert recipe.branch_config("ct", "densenet121", 0, images=29 * size).steps == 20
    assert recipe.branch_config("ct", "densenet121", 0, images=9 * size).steps == 9


def test_teachers_have_seeds_of_their_own_and_fewer_steps():
    recipe = ServedRecipe(
        teachers={"film": ("densenet121", "mobilenet")}, frozen_until={"mobilenet": "conv1"}
    )
    assert recipe.teacher_configs("ct", 0, images=10**6) == ()
    own = recipe.branch_config("xray", "mobilenet", 7, images=10**6)
    (first, dense), (second, mobile) = recipe.teacher_configs("xray", 7, images=10**6)
    assert (first, second) == ("densenet121", "mobilenet")
    assert {own.seed, dense.seed, mobile.seed} == {7, 8, 9}
    assert dense.steps == mobile.steps == 800
    assert own.steps == 1200
    assert (dense.frozen_until, mobile.frozen_until) == (None, "conv1")


def test_a_branch_is_refined_from_few_draws_of_an_image_and_by_kind():
    recipe = ServedRecipe(
        refinement={"slice": Refinement(steps=500, batch_size=32, mild=0.75, most_draws=10)}, frozen_until={}
    )
    assert recipe.refined_config("xray", "mobilenet", 7, images=10**6) is None
    first = recipe.branch_config("ct", "densenet121", 7, images=10**6)
    config = recipe.refined_config("ct", "densenet121", 7, images=10**6)
    assert (config.steps, config.batch_size, config.mild, config.taught) == (500, 32, 0.75, 0.5)
    assert config.seed not in {first.seed, 8, 9}
    assert (config.hint, config.balance, config.frozen_until) == (first.hint, first.balance, None)
    assert recipe.refined_config("ct", "densenet121", 7, images=640).steps == 200

    short = recipe.shortened(4)
    assert short.branch_config("ct", "densenet121", 0, images=10**6).steps == 4
    assert short.refined_config("ct", "densenet121", 0, images=10**6).steps == 4
