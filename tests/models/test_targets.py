from __future__ import annotations

import pytest

from torch_cormorant import Cormorant
from torch_cormorant.data import MINI_TARGETS, QM9_TARGETS
from torch_cormorant.errors import DataError
from torch_cormorant.models import head_for_target, reference_for_head
from torch_cormorant.models.targets import TARGET_HEADS
from torch_cormorant.nn import HEADS, LevelSizes, make_head


def test_every_property_has_a_head() -> None:
    assert set(TARGET_HEADS) == set(QM9_TARGETS) | set(MINI_TARGETS)
    assert set(TARGET_HEADS.values()) <= set(HEADS)


def test_heads_of_properties() -> None:
    assert head_for_target("mu") == "dipole_norm"
    assert head_for_target("e_homo") == "published"
    assert head_for_target("u298") == "extensive"
    assert head_for_target("R2") == "spatial_extent"
    assert head_for_target("alpha") == "extensive"
    with pytest.raises(DataError, match="did you mean"):
        head_for_target("lummo")


@pytest.mark.parametrize("kind", HEADS)
def test_labels_whose_zero_must_stay_get_no_reference(kind: str) -> None:
    head = make_head(kind, LevelSizes((4,), (2,), 2))
    assert (reference_for_head(kind) == "none") is head.scale_only
    assert reference_for_head(kind) == reference_for_head(head.kind)
    if head.additive:
        assert reference_for_head(kind) == "composition"


def test_a_network_tells_what_its_labels_may_lose() -> None:
    model = Cormorant(head=head_for_target("mu"), channels=4, num_levels=1)
    assert reference_for_head(model.head.kind) == "none"
