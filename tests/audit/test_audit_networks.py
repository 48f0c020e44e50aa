"""Sound networks of many kinds, in which nothing may be found, and the same kinds with one fault each."""

from pathlib import Path

import pytest

from reprocnn.audit.api import RULES, audit
from reprocnn.backend import keras
from tests.audit import published_faults
from tests.audit.faulty_networks import FAULTS, NEAR
from tests.audit.sound_networks import SOUND
from tests.audit.test_audit_rules import CASES


def codes(build):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    made = build()
    model, known = made if isinstance(made, tuple) else (made, {})
    return {one.code: one.message for one in audit(model, **known)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_finds_nothing_in_a_sound_network(name):
    assert codes(SOUND[name]) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_finds_the_fault(name):
    code, build = FAULTS[name]
    assert code in codes(build)


@pytest.mark.parametrize("code", NEAR)
def test_leaves_alone_what_comes_close(code):
    assert [code in codes(build) for build in NEAR[code]] == [False] * len(NEAR[code])


def test_every_rule_has_a_guilty_and_an_innocent_model():
    faults = {code for code, _ in FAULTS.values()}
    assert {rule.code for rule in RULES} == set(CASES) | (faults & set(NEAR))
    assert not set(CASES) & set(NEAR)


@pytest.mark.nightly
def test_the_score_on_published_faults_is_current():
    assert Path(published_faults.PAGE).read_text() == published_faults.page(), "python -m tests.audit.published_faults"
