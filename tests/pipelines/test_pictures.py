"""Pictures of every kind are read as what they show, or named."""

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import CaseError
from pipelines.pictures import picture_size, read_picture


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK", "1", "rotated png", "rotated tif"])
def test_odd_pictures_are_what_they_show(tmp_path, mode):
    grey = np.zeros((20, 30), np.uint8)
    grey[:10, :15], grey[10:, 15:] = 255, 255
    shown, path = Image.fromarray(grey), tmp_path / ("x.tif" if mode in ("CMYK", "rotated tif") else "x.png")
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 200).save(path)
        grey = grey.astype(np.uint16) * 200 // 257
    elif mode.startswith("rotated"):
        told = Image.Exif()
        told[0x0112] = 6  # to be turned clockwise
        shown.save(path, exif=told, **({"compression": "tiff_lzw"} if mode.endswith("tif") else {}))
        grey = np.rot90(grey, -1)
    else:
        shown.convert(mode).save(path)
    np.testing.assert_array_equal(read_picture(path, "x"), np.stack([grey] * 3, -1))
    assert picture_size(path, "x") == grey.shape


def test_numbers_without_a_range_are_no_picture(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(CaseError, match="its numbers have no known range; save it with 8 or 16 bits"):
        read_picture(tmp_path / "x.tif", "x")
    Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / "y.tif", tiffinfo={0x0112: 6})
    with pytest.raises(CaseError, match="rotated TIFF that is not compressed"):
        read_picture(tmp_path / "y.tif", "y")
