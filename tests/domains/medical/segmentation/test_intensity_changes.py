"""Random changes of intensity: a function of the seed, off when they are off, for volumes and for pictures."""

import pytest
import torch

from domains.medical.segmentation.augment import intensity_change
from domains.medical.segmentation.settings import AugmentSettings, Blur, ColourRange, LowResolution, Noise

NEVER = {
    "noise": Noise(probability=0),
    "blur": Blur(probability=0),
    "brightness": ColourRange(probability=0),
    "contrast": ColourRange(probability=0),
    "gamma": ColourRange(probability=0),
    "low_resolution": LowResolution(probability=0),
}
ALWAYS = {name: value.model_copy(update={"probability": 1.0}) for name, value in NEVER.items()}
IMAGES = {
    "volume": torch.randn(1, 12, 10, 8, generator=torch.Generator().manual_seed(0)),
    "colour picture": torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0)),
    "grey picture": torch.randn(1, 24, 20, generator=torch.Generator().manual_seed(0)),
}


def change_of(image: torch.Tensor, **settings):
    unit = image.shape[0] == 3
    return intensity_change(AugmentSettings(**{**NEVER, **settings}), image.ndim - 1, unit=unit)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", [*ALWAYS, "hue"])
def test_a_change_is_a_function_of_its_seed(kind, name):
    if name == "hue" and kind != "colour picture":
        pytest.skip("hue is for colour")
    image = IMAGES[kind]
    change = change_of(image, **({"hue": 1.0} if name == "hue" else {name: ALWAYS[name]}))
    first = change(image.clone(), 5)
    other = [change(image.clone(), seed) for seed in range(6, 12)]
    assert torch.equal(change(image.clone(), 5), first)
    assert first.shape == image.shape
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    assert any(not torch.equal(first, another) for another in other)
    again = change_of(image, **({"hue": 1.0} if name == "hue" else {name: ALWAYS[name]}))
    assert torch.equal(again(image.clone(), 5), first)


@pytest.mark.parametrize("kind", IMAGES)
def test_nothing_changes_at_probability_zero(kind):
    image = IMAGES[kind]
    torch.testing.assert_close(change_of(image)(image.clone(), 3), image, atol=1e-6, rtol=0)
