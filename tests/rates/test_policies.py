from hypothesis import given
from hypothesis import strategies as st

from stages.params import Rates
from stages.rates.policies import learning_rates

rate = st.floats(1e-8, 10)
GROUPS = ["stem", "stage1", "stage2", "head"]


@given(rate, rate, rate)
def test_the_baseline_has_one_rate_for_every_group(uniform, backbone, head):
    rates = Rates(uniform=uniform, backbone=backbone, head=head)
    assert learning_rates("baseline", rates, GROUPS) == dict.fromkeys(GROUPS, uniform)


@given(rate, rate, rate)
def test_the_differential_arm_has_a_rate_for_the_head_and_another_for_all_below_it(uniform, backbone, head):
    rates = Rates(uniform=uniform, backbone=backbone, head=head)
    assert learning_rates("differential", rates, GROUPS) == {
        "stem": backbone,
        "stage1": backbone,
        "stage2": backbone,
        "head": head,
    }
