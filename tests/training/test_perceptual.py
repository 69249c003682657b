# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from videoar_pipelines.training.perceptual import VGG16_LEVELS, PerceptualLoss, VGG16Features


LEVELS = ((4, 4), (8, 8))


@pytest.fixture(scope="module")
def loss():
    torch.manual_seed(0)
    return PerceptualLoss(LEVELS)


def test_the_parameters_are_named_as_in_torchvision():
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    with torch.device("meta"):
        names = dict(VGG16Features().named_parameters())
    assert set(names) == {f"features.{index}.{kind}" for index in indices for kind in ("weight", "bias")}
    assert names["features.28.weight"].shape == (512, 512, 3, 3)


def test_the_distance_is_that_of_normalised_features(loss):
    video, decoded = torch.rand(1, 3, 1, 16, 16) * 2 - 1, torch.rand(1, 3, 1, 16, 16) * 2 - 1
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    expected, (first, second) = (
        0,
        ((frame[:, :, 0] - shift[:, None, None]) / scale[:, None, None] for frame in (video, decoded)),
    )
    for start, end in ((0, 4), (4, 9)):
        for layer in loss.network.features[start:end]:
            first, second = layer(first), layer(second)
        difference = F.normalize(first, dim=1) - F.normalize(second, dim=1)
        expected += difference.square().mean(dim=1).mean()
    torch.testing.assert_close(loss(video, decoded), expected, rtol=1e-4, atol=1e-6)


def test_frames_are_compared_one_by_one(loss):
    video, decoded = torch.rand(2, 3, 3, 16, 16), torch.rand(2, 3, 3, 16, 16)
    single = [loss(video[:, :, frame, None], decoded[:, :, frame, None]) for frame in range(3)]
    torch.testing.assert_close(loss(video, decoded), torch.stack(single).mean(), rtol=1e-5, atol=1e-7)


def test_equal_videos_have_no_distance_and_a_finite_gradient(loss):
    video = torch.zeros(1, 3, 2, 16, 16, requires_grad=True)
    distance = loss(video, video.detach())
    distance.backward()
    assert distance == 0 and video.grad.isfinite().all()
    assert not any(parameter.requires_grad for parameter in loss.parameters())


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    tensors = {name: torch.zeros(1).expand(value.shape).clone() for name, value in VGG16Features().named_parameters()}
    tensors["features.0.weight"] += 0.5
    save_file(tensors | {"classifier.0.weight": torch.zeros(3)}, path)
    return path


def test_weights_come_from_the_named_files(vgg_file, tmp_path):
    heads = {
        f"lin{index}.model.1.weight": torch.rand(1, widths[-1], 1, 1) for index, widths in enumerate(VGG16_LEVELS)
    }
    torch.save(heads, tmp_path / "vgg.pth")
    loss = PerceptualLoss.from_files(vgg_file, tmp_path / "vgg.pth")
    assert loss.network.features[0].weight.unique().item() == 0.5
    assert loss.head_4.equal(heads["lin4.model.1.weight"].flatten())
    assert PerceptualLoss.from_files(vgg_file).head_0.unique().item() == pytest.approx(1 / 64)

    del heads["lin2.model.1.weight"]
    torch.save(heads, tmp_path / "incomplete.pth")
    with pytest.raises(ValueError, match="lpips_weights.*lin2"):
        PerceptualLoss.from_files(vgg_file, tmp_path / "incomplete.pth")


def test_the_heads_that_torchmetrics_ships_can_be_read(vgg_file):
    pytest.importorskip("torchmetrics")
    import torchmetrics.functional.image as image

    path = next(p / "lpips_models" / "vgg.pth" for p in map(type(vgg_file), image.__path__))
    loss = PerceptualLoss.from_files(vgg_file, path)
    assert (loss.head_0 >= 0).all() and loss.head_0.std() > 0
