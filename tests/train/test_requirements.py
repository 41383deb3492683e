from __future__ import annotations

import pytest

from torch_cormorant.errors import BackendError
from torch_cormorant.train import require_extra


def test_missing_package_names_the_command_that_installs_it() -> None:
    message = r'needs no_such_package: pip install "torch-cormorant\[train\]"'
    with pytest.raises(BackendError, match=message):
        require_extra(("numpy", "no_such_package"))


def test_present_packages_pass() -> None:
    require_extra()
