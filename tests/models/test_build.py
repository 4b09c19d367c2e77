from typing import Any

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.models.build import build_model


@pytest.mark.parametrize("arguments", [{"window_hu": [400, -1000]}, {"widths": []}, {"widths": [-4, 8]}])
def test_impossible_arguments_name_the_model(arguments: dict[str, Any]) -> None:
    with pytest.raises(LunaError, match=r"model 'segmentation_unet' cannot be built with"):
        build_model("segmentation_unet", arguments)
