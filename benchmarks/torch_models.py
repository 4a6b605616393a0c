"""SiCL's and CSSC's networks in plain PyTorch, from `docs/algorithm.md` and `docs/methods/cssc.md`.

They share nothing with the package, and bear the names of the published checkpoints, so that its
exported weights fit them.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Basic(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x):
        """Maps (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 with the stride, and 1 x 1 convolutions, and a shortcut."""

    expansion = 4

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x):
        """Maps (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


_BLOCKS = {"basic": Basic, "bottleneck": Bottleneck}


def _shortcut(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def resnet(shape, stages: int) -> tuple[nn.Sequential, int]:
    """The first stages of a ResNet, without pooling, and how many channels come out.

    Args:
        shape: The group `model` of a config.
        stages: How many.
    """
    layers = [nn.Conv2d(3, shape.width, 7, 2, 3, bias=False), nn.BatchNorm2d(shape.width)]
    layers += [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = shape.width
    for stage in range(stages):
        last = stage == len(shape.stage_sizes) - 1
        stride = 1 if stage == 0 else shape.last_stride if last else 2
        blocks = []
        for number in range(shape.stage_sizes[stage]):
            width = shape.width * 2**stage
            block = _BLOCKS[shape.block](channels, width, 1 if number else stride)
            blocks.append(block)
            channels = width * block.expansion
        layers.append(nn.Sequential(*blocks))
    return nn.Sequential(*layers), channels


def without_bias(size: int) -> nn.BatchNorm1d:
    """A batch norm whose bias stays 0."""
    norm = nn.BatchNorm1d(size)
    norm.bias.requires_grad_(False)
    return norm


class Projection(nn.Module):
    """Linear layer, batch norm, unit length; SiCL's fusion head is one."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.full_connect, self.full_bn = nn.Linear(inputs, outputs), without_bias(outputs)

    def forward(self, x):
        """Maps (B, inputs) to unit rows (B, outputs)."""
        return F.normalize(self.full_bn(self.full_connect(x)))


class Encoder(Projection):
    """SiCL's encoder of a stream: its feature and its projection, unit rows."""

    def __init__(self, shape):
        base, size = resnet(shape, len(shape.stage_sizes))
        super().__init__(size, size)
        self.base, self.feat_bn = base, without_bias(size)

    def forward(self, images):
        """Maps images (B, 3, H, W) to x and z, each (B, D)."""
        pooled = self.base(images).mean((2, 3))
        return F.normalize(self.feat_bn(pooled)), super().forward(pooled)


class Mining(nn.Module):
    """CSSC's semantics mining and refinement of a map."""

    def __init__(self, size, classes, config, salient):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(1) if salient else nn.AdaptiveAvgPool2d(1)
        self.bottleneck = without_bias(size)
        features = config.part_features
        self.l_conv_list = nn.ModuleList(
            nn.Sequential(nn.Linear(size, features, bias=False), nn.BatchNorm1d(features))
            for _ in range(config.parts)
        )
        self.classifier = nn.Linear(size + config.parts * features, classes, bias=False)
        hidden = max(size // config.reduction, 1)
        self.refinement = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, size), nn.Sigmoid()
        )

    def forward(self, x):
        """Maps (B, D, H, W) to the refined map, the feature (B, D) and the logits (B, C)."""
        feature = self.pool(x).flatten(1)
        rows = x.shape[2] // len(self.l_conv_list)
        pieces = [self.bottleneck(feature)]
        for number, layer in enumerate(self.l_conv_list):
            stripe = x[:, :, number * rows : (number + 1) * rows]
            pieces.append(layer(self.pool(stripe).flatten(1)))
        logits = self.classifier(torch.cat(pieces, 1))
        return x * self.refinement(feature)[:, :, None, None], feature, logits


class ContentSalient(nn.Module):
    """CSSC's network in training mode."""

    def __init__(self, shape, mining, classes):
        super().__init__()
        self.backbone_before_layer4, inputs = resnet(shape, len(shape.stage_sizes) - 1)
        block = _BLOCKS[shape.block]
        width = shape.width * 2 ** (len(shape.stage_sizes) - 1)
        size = width * block.expansion
        self.backbone_layer41_branch1 = block(inputs, width, shape.last_stride)
        self.backbone_layer41_branch2 = block(inputs, width, shape.last_stride)
        self.backbone_layer42_branch1 = block(size, width, 1)
        self.backbone_layer42_branch2 = block(size, width, 1)
        self.backbone_layer43 = block(size, width, 1)
        for branch in (1, 2):
            self.add_module(f"smr_c_branch{branch}", Mining(size, classes, mining, False))
            self.add_module(f"smr_s_branch{branch}", Mining(size, classes, mining, True))
        self.bottleneck = without_bias(size)
        self.classifier = nn.Linear(size, classes, bias=False)

    def forward(self, images):
        """Maps images (B, 3, H, W) to five features and five logits."""
        t = self.backbone_before_layer4(images)
        u, f_c1, y_c1 = self.smr_c_branch1(self.backbone_layer41_branch1(t))
        u, f_s1, y_s1 = self.smr_s_branch1(self.backbone_layer42_branch1(u))
        v, f_s2, y_s2 = self.smr_s_branch2(self.backbone_layer41_branch2(t))
        v, f_c2, y_c2 = self.smr_c_branch2(self.backbone_layer42_branch2(v))
        q = self.backbone_layer43(u + v).amax((2, 3))
        y = self.classifier(self.bottleneck(q))
        return (f_c1, f_s1, f_s2, f_c2, q), (y_c1, y_s1, y_s2, y_c2, y)
