"""Which base image the others stand on."""

from dataclasses import dataclass, field

import pytest

from images import base


@dataclass
class Store:
    """A builder that only knows what it holds."""

    held: set[str] = field(default_factory=set)

    def has(self, reference: str) -> bool:
        return reference in self.held


def test_a_named_base_wins() -> None:
    assert base.choose(Store(), embedded=True, environ={"FETTLE_BASE_IMAGE": "corp/debian"}) == "corp/debian"


def test_an_engine_takes_debians_own_image_without_asking() -> None:
    assert base.choose(Store(), embedded=False, environ={}) == base.PUBLISHED


@pytest.mark.parametrize("answers", [True, False])
def test_a_base_that_is_there_stays_the_base(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    # Else a registry that comes and goes would rename, and so rebuild, every image.
    monkeypatch.setattr(base, "_registry_answers", lambda: answers)
    assert base.choose(Store({base.own_name()}), embedded=True, environ={}) == base.own_name()
    assert base.choose(Store({base.PUBLISHED}), embedded=True, environ={}) == base.PUBLISHED


@pytest.mark.parametrize(("answers", "expected"), [(True, base.PUBLISHED), (False, base.own_name())])
def test_without_a_base_the_registry_decides(
    monkeypatch: pytest.MonkeyPatch, *, answers: bool, expected: str
) -> None:
    monkeypatch.setattr(base, "_registry_answers", lambda: answers)
    assert base.choose(Store(), embedded=True, environ={}) == expected
