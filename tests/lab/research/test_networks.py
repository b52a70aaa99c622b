"""The compared networks: their weights are counted against the published figures, their outputs have their shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from torch import nn

from tests.lab.nets import random_weights
from tools.lab.export import INPUT, export
from tools.lab.lightcnn9 import LIGHTCNN9
from tools.lab.networks.lightcnn9 import LightCNN9
from tools.lab.operators import OPERATORS
from tools.lab.research import networks
from tools.lab.research.networks import NETWORKS, weight_count
from tools.lab.research.networks.efficientnet_b0 import efficientnet_b0
from tools.lab.research.networks.facenet import facenet
from tools.lab.research.networks.lightcnn29 import LightCNN29
from tools.lab.research.networks.mobilefacenet import mobilefacenet
from tools.lab.research.networks.mobilenet_v2 import mobilenet_v2
from tools.lab.research.networks.resnet50 import resnet50
from tools.lab.research.networks.vgg16 import vgg16

torch.set_num_threads(1)
THOUSAND = {mobilenet_v2: 3_504_872, efficientnet_b0: 5_288_548, vgg16: 138_357_544, resnet50: 25_557_032}
IN_THE_FILES = {build.__name__: {f"{count:,}"} for build, count in THOUSAND.items()} | {
    "mobilefacenet": {"0.99 million"}
}


@pytest.mark.parametrize(("build", "published"), THOUSAND.items())
def test_a_network_with_a_thousand_outputs_has_the_published_number_of_weights(
    build: Callable[[int], nn.Module], published: int
) -> None:
    with torch.device("meta"):  # counted without filling memory
        assert weight_count(build(1000)) == published


def test_inception_resnet_v1_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        logits = 512 * 8631 + 8631
        assert weight_count(facenet(512)) == 27_910_327 - logits  # published with the classifier of VGGFace2


def test_lightcnn29_has_the_paper_s_number_of_weights_within_one_percent() -> None:
    assert weight_count(LightCNN29()) == pytest.approx(12_637_000, rel=0.01)


def test_mobilefacenet_takes_four_megabytes_and_less_than_a_million_weights_once_folded() -> None:
    network = mobilefacenet()
    assert weight_count(network) * 4 == pytest.approx(4.0e6, rel=0.01)
    folded = sum(layer.num_features for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    assert weight_count(network) - folded == pytest.approx(0.99e6, abs=0.005e6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_states_the_dimension_and_the_weights_of_its_network(name: str) -> None:
    entry, module = NETWORKS[name], getattr(networks, name)
    with torch.device("meta"):
        network = entry.build().eval()
        assert network(torch.empty(entry.input_shape)).shape == (1, module.DIMENSION)
    stated = {f"{weight_count(network):,}"} | IN_THE_FILES.get(name, set())
    assert any(figure in module.__doc__ for figure in stated)


def test_lightcnn9_has_the_tensors_of_the_table_behind_the_shipped_file() -> None:
    tensors = LightCNN9().state_dict()
    assert [name.removesuffix(".weight") for name in tensors if name.endswith("weight")] == [
        layer.name for layer in LIGHTCNN9.layers
    ]
    assert weight_count(LightCNN9()) == LIGHTCNN9.weight_count


def test_lightcnn9_and_the_shipped_file_compute_the_same() -> None:
    weights = random_weights(LIGHTCNN9)
    network = LightCNN9().eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    session = ort.InferenceSession(export(LIGHTCNN9, weights).SerializeToString(), providers=["CPUExecutionProvider"])
    face = np.random.default_rng(5).random((1, 1, 128, 128), np.float32)
    (expected,) = session.run(None, {INPUT: face})
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(face)).numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", OPERATORS)
def test_lightcnn9_learns_with_every_operator(operator: str) -> None:
    torch.manual_seed(1)
    network = LightCNN9(OPERATORS[operator], width=0.25, side_px=32, outputs=16)
    output = network(torch.rand(3, 1, 32, 32))
    assert output.shape == (3, 16)
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
