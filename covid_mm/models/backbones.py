"""The paper's six ImageNet backbones: how each is built, scaled, split and looked into.

Each is `keras.applications.<Name>(include_top=False)`. Source: paper section II.B, references
[12] to [17]; scaling as in each module's own `preprocess_input`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import keras

from covid_mm.errors import UsageError

Scaling = Literal["tf", "torch", "caffe"]

_AUTOMATIC_NAME = re.compile(
    r"^(add|conv2d|batch_normalization|activation|average_pooling2d|max_pooling2d|concatenate)(?:_\d+)?$"
)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Backbone:
    """What the rest of the package must know of one backbone.

    build: the keras.applications function. scaling: the ImageNet convention of its weights.
    last_conv_layer: the last convolution's output (after its normalisation and activation), where
    Grad-CAM looks. fine_layer: an earlier one, with a grid of 7 to 10 cells per side at 150 pixels
    (18 in VGG16, whose last convolution has 9 already). last_block_input: the layer whose output
    feeds the last block, so that everything up to it is frozen by `--fine-tune last-block`.
    early_layers: what the content check reads, at an eighth of the image's resolution at most.
    smallest: least image side, pixels.
    relative_cost: of a forward pass at 150 pixels, MobileNet's being 1 (measured on two cores).
    finer: what changes in the settings of which layers so that the last reduction is left out and
    the last feature map has a cell per 16 pixels instead of 32; empty where that is not offered.
    """

    name: str
    title: str
    build: Callable[..., Any]
    scaling: Scaling
    last_conv_layer: str
    fine_layer: str
    last_block_input: str
    early_layers: tuple[str, ...]
    relative_cost: float
    smallest: int = 32
    finer: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_TABLE = (
    Backbone(
        "resnet50",
        "ResNet50",
        keras.applications.ResNet50,
        "caffe",
        "conv5_block3_out",
        "conv4_block6_out",
        "conv4_block6_out",
        ("conv2_block3_out", "conv3_block4_out"),
        relative_cost=5.0,
        finer={"conv5_block1_0_conv": {"strides": (1, 1)}, "conv5_block1_1_conv": {"strides": (1, 1)}},
    ),
    Backbone(
        "densenet121",
        "DenseNet121",
        keras.applications.DenseNet121,
        "torch",
        "relu",
        "pool4_relu",
        "pool4_pool",
        ("pool2_pool", "pool3_pool"),
        relative_cost=4.4,
        finer={"pool4_pool": {"pool_size": (1, 1), "strides": (1, 1)}},
    ),
    Backbone(
        "xception",
        "Xception",
        keras.applications.Xception,
        "tf",
        "block14_sepconv2_act",
        "block13_sepconv1_act",
        "add_11",
        ("add", "add_1"),
        relative_cost=6.3,
        smallest=71,
    ),
    Backbone(
        "vgg16",
        "VGG16",
        keras.applications.VGG16,
        "caffe",
        "block5_conv3",
        "block4_conv3",
        "block4_pool",
        ("block2_pool", "block3_pool"),
        relative_cost=17.0,
    ),
    Backbone(
        "mobilenet",
        "MobileNet",
        keras.applications.MobileNet,
        "tf",
        "conv_pw_13_relu",
        "conv_pw_11_relu",
        "conv_pw_11_relu",
        tuple(f"conv_pw_{number}_relu" for number in range(1, 6)),
        relative_cost=1.0,
        finer={"conv_pad_12": {"padding": ((1, 1), (1, 1))}, "conv_dw_12": {"strides": (1, 1)}},
    ),
    Backbone(
        "inceptionv3",
        "InceptionV3",
        keras.applications.InceptionV3,
        "tf",
        "mixed10",
        "mixed7",
        "mixed8",
        ("mixed0", "mixed2"),
        relative_cost=2.5,
        smallest=75,
    ),
)
BY_NAME = {backbone.name: backbone for backbone in _TABLE}


def find_backbone(name: str) -> Backbone:
    """The backbone of this name. Raises UsageError for any other name."""
    if name not in BY_NAME:
        raise UsageError(f"Backbone {name!r} is not known; expected one of {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def scale_pixels(images: Any, scaling: Scaling, prefix: str) -> Any:
    """Pixels 0..255 (batch, side, side, 3) to what ImageNet weights of this convention expect.

    `tf`: -1..1. `torch`: per-channel mean 0 and deviation 1 over ImageNet. `caffe`: BGR minus the
    mean. Plain layers inside the graph, so that training and serving cannot drift apart.

    Raises:
        UsageError: any other scaling.
    """
    if scaling not in get_args(Scaling):
        raise UsageError(f"Scaling {scaling!r} is not known; expected one of {', '.join(get_args(Scaling))}.")
    if scaling == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=f"{prefix}scale")(images)
    if scaling == "torch":
        return keras.layers.Normalization(
            mean=[255.0 * mean for mean in _IMAGENET_MEAN],
            variance=[(255.0 * deviation) ** 2 for deviation in _IMAGENET_STD],
            name=f"{prefix}scale",
        )(images)
    bgr = keras.ops.flip(images, axis=-1)
    return keras.layers.Normalization(mean=list(_CAFFE_MEAN_BGR), variance=[1.0] * 3, name=f"{prefix}scale")(
        bgr
    )


def attach_backbone(images: Any, backbone: Backbone, prefix: str, output_stride: int = 32) -> tuple[Any, Any]:
    """Lay the backbone, without top and with random weights, flat onto scaled images.

    Returns the input that the images come from and the last feature map (batch, rows, columns,
    channels). Every layer's name gets the prefix, because two backbones share names and Grad-CAM
    needs one flat graph.

    Raises:
        UsageError: an output stride that this backbone does not offer.
    """
    base = backbone.build(include_top=False, weights=None, input_tensor=images)
    before = {layer.name for layer in keras.Model(base.inputs, images).layers}
    if output_stride != 32:
        base = _leave_out_reduction(base, backbone)
    counts: Counter[str] = Counter()
    for layer in base.layers:
        if layer.name in before:
            continue
        name = layer.name
        unnamed = _AUTOMATIC_NAME.match(name)
        if unnamed:  # Keras numbers these by how many were made before in this process
            name = f"{unnamed[1]}_{counts[unnamed[1]]}"
            counts[unnamed[1]] += 1
        layer.name = f"{prefix}{name}"
    return base.inputs[0], base.output


def _leave_out_reduction(base: Any, backbone: Backbone) -> Any:
    """The same layers with the last reduction left out; weights of the one fit the other."""
    if not backbone.finer:
        offered = ", ".join(other.title for other in _TABLE if other.finer)
        raise UsageError(f"{backbone.title} has no output stride of 16; choose 32, or one of {offered}.")
    description = base.get_config()
    for layer in description["layers"]:
        layer["config"].update(backbone.finer.get(layer["name"], {}))
    return keras.Model.from_config(description)
