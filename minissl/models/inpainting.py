"""The decoder of a context encoder (Pathak et al., 2016, "Context Encoders: Feature Learning by Inpainting")."""

from minissl import nn
from minissl.tensor import Tensor


class ContextDecoder(nn.Module):
    """The last map of an encoder -> an image: (N, h, w, inputs) -> (N, h·2^k, w·2^k, channels), k = `doublings`.

    The channel-wise layer carries what is known from every place to every other, which convolutions over so small a map
    would need many layers for; with all channels mixed it would have `inputs` times as many weights. A 1x1 convolution
    mixes them, then transposed convolutions (`UpsampleConv2d`: their pictures are not chequered) double the sides and
    halve the channels, and a 3x3 convolution paints. Nothing bounds it, so that standardised images can be filled.
    """

    def __init__(self, height: int, width: int, inputs: int, doublings: int, channels: int = 3) -> None:
        if doublings < 1 or inputs % 2**doublings:
            raise ValueError(
                "ContextDecoder: expected at least 1 doubling, each of which halves the channels evenly, "
                f"got {doublings} from {inputs} channels"
            )
        self.spread = nn.Sequential(nn.ChannelwiseLinear(height, width, inputs), nn.BatchNorm(inputs, relu=True))
        self.mix = nn.Sequential(nn.Conv2d(inputs, inputs, 1, bias=False), nn.BatchNorm(inputs, relu=True))
        layers: list[nn.Module] = []
        for i in range(doublings):
            C, D = inputs >> i, inputs >> i + 1
            layers += [nn.UpsampleConv2d(C, D, bias=False), nn.BatchNorm(D, relu=True)]
        self.rise = nn.Sequential(*layers, nn.Conv2d(inputs >> doublings, channels, 3, 1, 1))
        self.shape = (height, width, inputs)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"ContextDecoder: expected maps (N, {', '.join(map(str, self.shape))}), got {x.shape}")
        return self.rise(self.mix(self.spread(x)))
