"""Options become one plan, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from covid_mm.commands.train import CHECKPOINTS, choose_output
from covid_mm.config import TrainingConfig
from covid_mm.errors import CheckpointError, TrainingError, UsageError
from covid_mm.models.meta_file import write_meta
from covid_mm.training.plan import TrainingPlan, build_parser, make_plan, shorten_command
from covid_mm.training.run import RunFolder


def plan(*arguments: str) -> TrainingPlan:
    return make_plan(build_parser().parse_args(arguments), "python train.py")


def test_defaults_are_the_papers():
    made = plan()
    assert made.network.name == "densenet121-mobilenet"
    assert made.network.image_size == 150
    assert made.synthetic
    assert made.training == TrainingConfig()
    assert (made.training.learning_rate, made.training.final_learning_rate) == (2e-3, 1e-3)
    assert (made.training.batch_size, made.training.steps_per_epoch) == (32, 100)
    assert (made.data.split, made.weights) == ("paper", "auto")


def test_options_reach_the_plan():
    made = plan(
        *("--data", "images", "--single", "vgg16", "--modality", "xray", "--image-size", "96"),
        *("--fine-tune", "full", "--epochs", "3", "--learning-rate", "0.01", "--seed", "4"),
        *("--split", "grouped", "--positives", "covid-19", "--output", "out", "--weights", "none"),
    )
    assert made.network.branches == (("xray", "vgg16"),)
    assert made.network.image_size == 96
    assert not made.synthetic
    assert (made.training.fine_tune, made.training.epochs) == ("full", 3)
    assert (made.training.learning_rate, made.training.final_learning_rate) == (0.01, 0.005)
    assert made.training.seed == made.data.seed == 4
    assert (made.data.split, made.data.positives) == ("grouped", "covid-19")
    assert (made.data_root, made.output, made.weights) == ("images", "out", "none")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pair", "resnet50-vgg16"),
        ("--single", "xception", "--modality", "ct", "--data", "d", "--output", "o"),
    ],
)
def test_a_plan_comes_back_from_json(arguments):
    made = plan(*arguments)
    assert TrainingPlan.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_copies_and_the_epoch_are_read_under_their_former_names_too():
    values = plan("--views", "3", "--keep", "last").to_dict()
    values["training"]["views"] = values["training"].pop("augmented_copies")
    values["training"]["kept_epoch"] = values["training"].pop("restored_epoch")
    training = TrainingPlan.from_dict(values).training
    assert (training.augmented_copies, training.restored_epoch) == (3, "last")


def test_a_plan_of_another_version_is_refused():
    values = plan().to_dict()
    for damaged in ({}, values | {"network": None}, values | {"training": {"speed": 1}}):
        with pytest.raises(TrainingError, match="not of this version"):
            TrainingPlan.from_dict(damaged)
    del values["weights"]
    with pytest.raises(TrainingError, match="weights"):
        TrainingPlan.from_dict(values)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--single vgg16 --modality ct --pair resnet50-vgg16", "exclude one another"),
        ("--single vgg16", "belong together"),
        ("--modality ct", "belong together"),
        ("--single lenet --modality ct", "lenet"),
        ("--pair vgg16", "vgg16"),
        ("--pair densenet121-lenet", "lenet"),
        ("--synthetic --data d", "give one of them"),
        ("--epochs 0", "--epochs must be 1 or more"),
        ("--steps-per-epoch -1", "--steps-per-epoch"),
        ("--batch-size 0", "--batch-size"),
        ("--augmented-copies 0", "--augmented-copies"),
        ("--views 0", "--augmented-copies"),
        ("--phantoms 0", "--phantoms"),
        ("--augmentation -1", "--augmentation"),
        ("--augmentation nan", "--augmentation"),
        ("--seed -1", "--seed must be 0 to 4294967295"),
        ("--seed 4294967296", "--seed"),
        ("--image-size 0", "--image-size must be 32 or more"),
        ("--learning-rate 0", "--learning-rate must be a number above 0"),
        ("--learning-rate nan", "--learning-rate"),
        ("--learning-rate -0.1", "--learning-rate"),
        ("--final-learning-rate inf", "--final-learning-rate"),
    ],
)
def test_contradictions_are_one_line_and_code_two(train, tmp_path, arguments, named):
    done = train(*arguments.split(), "--runs", tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "short"),
    [
        ("python train.py --data ../shared/data", "python train.py --data ../shared/data"),
        ("python train.py --data /home/me/images", "python train.py --data images"),
        ("python train.py --data=/home/me/images/", "python train.py --data=images"),
        (
            "python train.py --weights ct=/a/b/run,xray=/c/d/x.weights.h5",
            "python train.py --weights ct=run,xray=x.weights.h5",
        ),
        ("python train.py --weights ct=runs/a,xray=none", "python train.py --weights ct=runs/a,xray=none"),
        ("python train.py --data '/home/my self/images'", "python train.py --data images"),
        ("python train.py --data '/home/me/my images'", "python train.py --data 'my images'"),
    ],
)
def test_commands_lose_this_machines_folders(command, short):
    assert shorten_command(command) == short


def write_checkpoint(folder: Path, *, synthetic: bool) -> Path:
    from toy_checkpoint import make_meta
    from toy_networks import make_network, toy_backbones

    with toy_backbones():
        network = make_network(size=32)
    meta = make_meta(network, synthetic=synthetic, weights={"file": "model.weights.h5", "sha256": "0" * 64})
    meta["network"]["image_size"] = 150
    folder.mkdir()
    write_meta(folder, meta)
    return folder


def test_phantoms_never_replace_real_images(tmp_path):
    folder = RunFolder(tmp_path / "run")
    real = write_checkpoint(tmp_path / "real", synthetic=False)
    phantom = write_checkpoint(tmp_path / "phantom", synthetic=True)
    with pytest.raises(UsageError, match="never replaces"):
        choose_output(plan("--synthetic", "--output", str(real)), folder)
    assert choose_output(plan("--synthetic", "--output", str(phantom)), folder) == phantom
    assert choose_output(plan("--data", "d", "--output", str(real)), folder) == real
    (real / "meta.json").write_text("{")  # not known what it is: not replaced by phantoms
    with pytest.raises(CheckpointError):
        choose_output(plan("--synthetic", "--output", str(real)), folder)


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match=r"letter\.txt"):
        choose_output(plan("--output", str(tmp_path)), RunFolder(tmp_path / "run"))


def test_where_checkpoints_go_by_default(tmp_path):
    folder = RunFolder(tmp_path / "run")
    own = folder.path / "checkpoint"
    assert choose_output(plan(), folder) == CHECKPOINTS / "synthetic-densenet121-mobilenet"
    assert choose_output(plan("--data", "d"), folder) == CHECKPOINTS / "densenet121-mobilenet"
    assert choose_output(plan("--data", "d", "--split", "grouped"), folder) == own
    assert choose_output(plan("--data", "d", "--single", "vgg16", "--modality", "ct"), folder) == own
    assert choose_output(plan("--data", "d", "--image-size", "96"), folder) is None


def test_a_stage_of_a_training_publishes_nothing(tmp_path):
    made = plan("--data", "d", "--recipe", "paper", "--keep", "last", "--no-publish")
    assert made.training.restored_epoch == "last"
    assert choose_output(made, RunFolder(tmp_path)) is None
    assert choose_output(plan("--data", "d"), RunFolder(tmp_path)) is not None
    with pytest.raises(UsageError, match="no-publish belongs to the paper's recipe"):
        plan("--data", "d", "--recipe", "served", "--no-publish")
