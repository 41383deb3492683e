from __future__ import annotations

import logging
import warnings

import pytest

from torch_cormorant.train import quiet_lightning


def test_only_the_listed_remarks_are_hidden_and_only_inside() -> None:
    remark = "The 'train' loader does not have many workers which may be a bottleneck"
    with quiet_lightning():
        warnings.warn(remark, UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
    with pytest.raises(UserWarning, match="bottleneck"):
        warnings.warn(remark, UserWarning, stacklevel=1)


def test_log_level_is_restored_after_an_error() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with quiet_lightning():
        assert logger.level == logging.WARNING
    assert logger.level == before

    def fail() -> None:
        with quiet_lightning():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert logger.level == before
