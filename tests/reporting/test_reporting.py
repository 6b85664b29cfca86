import re
from dataclasses import replace
from functools import reduce
from operator import getitem

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.aggregate import summarize_replicates
from stages.data.store import Prepared
from stages.errors import UserError
from stages.evaluation.comparison import check_goal, compare_eval_mode, compare_training, summarize_arms
from stages.evaluation.statistics import Sample, plan_intervals
from stages.metrics_files import (
    ArmFailures,
    Evaluation,
    Failures,
    PrepareMetrics,
    SplitMetrics,
    TrainingMetrics,
    failure_bound,
)
from stages.params import ARMS, HIGHER_IS_BETTER, SPLITS, Goal, load_params
from stages.reporting.charts import (
    as_specification,
    as_svg,
    class_balance,
    confusion_matrix,
    group_marks,
    learning_curves,
    metric_differences,
    planned_half_widths,
    range_tests,
    rate_curves,
    reliability_diagram,
    side_by_side,
)
from stages.reporting.disagreements import MAX_SHOWN, find_disagreements
from stages.reporting.markdown import markdown_table
from stages.reporting.page import class_table, shown_params
from stages.reporting.tables import (
    Results,
    checks_table,
    conditions_sentence,
    environment_sentence,
    failures_sentence,
    goal_sentence,
    goal_table,
    group_table,
    guessing_sentence,
    looks_sentence,
    looks_table,
    near_duplicates_sentence,
    next_sentence,
    plan_sentence,
    plan_table,
    replicates_for,
    result_table,
    seeds_with_checkpoints,
    verdict_sentence,
)
from tests.conftest import ROOT

TRAINED = {
    "baseline": {
        1: {"train_accuracy": 0.95, "val_accuracy": 0.78, "train_loss": 0.15, "val_loss": 0.45},
        2: {"train_accuracy": 0.97, "val_accuracy": 0.80, "train_loss": 0.13, "val_loss": 0.43},
    },
    "differential": {
        1: {"train_accuracy": 0.90, "val_accuracy": 0.87, "train_loss": 0.25, "val_loss": 0.35},
        2: {"train_accuracy": 0.90, "val_accuracy": 0.86, "train_loss": 0.25, "val_loss": 0.35},
    },
}
RATES = {"baseline": {"stem": 0.01, "head": 0.01}, "differential": {"stem": 0.0001, "head": 0.01}}
OTHER_METRICS = ["balanced_accuracy", "macro_f1", "roc_auc", "brier", "calibration_error"]
INTERVAL = {"estimate": 0.08, "low": 0.02, "high": 0.14, "level": 0.95, "minimum_detectable_difference": 0.09}
UNKNOWN = {"low": None, "high": None, "level": None, "minimum_detectable_difference": None}
VERDICT = {
    "decision": "better",
    "metric": "accuracy",
    "power": 0.8,
    **INTERVAL,
    "looks": [{"replicates": 2, "interval": INTERVAL, "decision": "better"}],
    "reached_at": 2,
    "units": "images",
    "effective_units": 30,
    "standard_errors": {"replicates": 0.0001, "images": 0.0002},
    "near_duplicates": 0,
    "without_near_duplicates": None,
}
SPLIT_COUNTS = {
    "replicates": 2,
    "folds": None,
    "part": "main",
    "development": 0,
    "train": 30,
    "val": 30,
    "test": 30,
    "tested": 30,
    "tested_groups": 30,
    "unused": 0,
}


def sample(estimates, images=30, seed=0):
    """Replicates with these differences, all scored on the same images."""
    random = np.random.default_rng(seed)
    each = random.normal(0, 0.3, (len(estimates), images)) + random.normal(0, 0.3, images)
    influences = (each - each.mean(1, keepdims=True)) / images
    return Sample(np.array(estimates, dtype=float), influences, np.ones(each.shape, dtype=bool), np.ones(images))


def build_results(seeds=(1, 2), failures=None, plan=(), splits=None, **verdict):
    """The results of a small experiment with these seeds; what is said of its verdict takes the place of `VERDICT`."""
    trained = {
        arm: {
            seed: {**row, "overfitting_gap": row["train_accuracy"] - row["val_accuracy"]}
            for seed, row in TRAINED[arm].items()
            if seed in seeds
        }
        for arm in ARMS
    }
    training = {arm: TrainingMetrics(learning_rates=RATES[arm], **summarize_replicates(trained[arm])) for arm in ARMS}

    def on_split(split):
        accuracy, loss = ("train_accuracy", "train_loss") if split == "train" else ("val_accuracy", "val_loss")
        metrics = {
            arm: {
                seed: {"accuracy": row[accuracy], "loss": row[loss], **dict.fromkeys(OTHER_METRICS, 0.8)}
                for seed, row in trained[arm].items()
            }
            for arm in ARMS
        }
        test = {"baseline_only_correct": 3, "differential_only_correct": 5, "p_value": 0.7}
        alone = {"estimate": 0.08, "reason": "one replicate says nothing of the chance between replicates"}
        return {
            **summarize_arms(metrics),
            "interval": dict.fromkeys(HIGHER_IS_BETTER, INTERVAL if len(seeds) > 1 else alone),
            "mcnemar": {str(seed): test for seed in seeds},
        }

    by_split = {split: on_split(split) for split in SPLITS}
    goal = Goal(val_accuracy_above=0.85, train_accuracy_below=0.92)
    by_group = {arm: summarize_replicates({seed: {"stem": 0.1, "head": 0.2} for seed in seeds}) for arm in ARMS}
    gap = sample([-0.14, -0.13][: len(seeds)])
    evaluation = {
        "verdict": {**VERDICT, **verdict},
        "failures": failures or {arm: {} for arm in ARMS},
        "plan": list(plan),
        "goal": {**goal.model_dump(), **{arm: check_goal(goal, training[arm]) for arm in ARMS}},
        "training": compare_training(training, gap),
        "eval_mode": compare_eval_mode(by_split["train"], by_split["val"], gap),
        **by_split,
        "relative_weight_change": by_group,
        "linear_cka": by_group,
    }
    return Results(
        prepare=PrepareMetrics(
            images=90,
            skipped=0,
            image_size=32,
            channels=1,
            classes={"good": 60, "bad": 30},
            groups=0,
            near_duplicate_images=0,
            checks={},
        ),
        splits=SplitMetrics.model_validate({**SPLIT_COUNTS, **(splits or {})}),
        training=training,
        evaluation=Evaluation.model_validate(evaluation),
    )


def with_evaluation(results, **changed):
    return replace(results, evaluation=results.evaluation.model_copy(update=changed))


def row(results, metric):
    return next(row for row in result_table(results) if row["metric"] == metric)


def test_the_table_says_mean_and_spread_and_the_paired_difference():
    results = build_results()
    assert row(results, "training accuracy") == {
        "metric": "training accuracy",
        "baseline": "96.0 ± 1.4 %",
        "differential": "90.0 ± 0.0 %",
        "difference": "−6.0 ± 1.4",
    }
    assert row(results, "validation loss")["difference"] == "−0.090 ± 0.014"
    assert row(results, "gap in evaluation mode")["baseline"] == "17.0 ± 0.0 %"
    assert row(results, "test accuracy, 95 % interval")["difference"] == "+2.0 to +14.0"
    assert row(results, "test loss, 95 % interval")["difference"] == "+0.020 to +0.140"


def test_the_table_says_the_rates_that_were_trained_with():
    rates = row(build_results(), "rate of backbone / head")
    assert (rates["baseline"], rates["differential"]) == ("0.01 / 0.01", "0.0001 / 0.01")


def test_the_table_has_an_interval_of_every_metric_that_may_decide_and_how_many_failed():
    failures = {"baseline": {"diverged": [2]}, "differential": {}}
    results = build_results(failures=failures)
    names = [of_metric["metric"] for of_metric in result_table(results)]
    assert len([name for name in names if name.endswith(", 95 % interval")]) == len(HIGHER_IS_BETTER)
    assert len(set(names)) == len(names)
    failed = row(results, "replicates that failed")
    assert (failed["baseline"], failed["differential"]) == ("1 of 2", "0 of 2")


def test_means_that_need_a_trained_network_are_not_said_to_be_of_one_that_diverged():
    assert seeds_with_checkpoints(build_results()) == "the seeds"
    failures = {"baseline": {"collapsed": [1]}, "differential": {"diverged": [2]}}
    assert seeds_with_checkpoints(build_results(failures=failures)) == "the seeds that did not diverge"


def test_what_blew_up_has_three_digits_in_tables_instead_of_twenty_two():
    results = build_results()
    change = results.evaluation.relative_weight_change
    baseline = change.baseline.model_copy(update={"mean": {**change.baseline.mean, "stem": 8.397127771775007e21}})
    blew_up = with_evaluation(results, relative_weight_change=change.model_copy(update={"baseline": baseline}))
    stem = group_table(blew_up)[0]
    assert (stem["group"], stem["arm"], stem["weight_change"]) == ("stem", "baseline", "8.4e+21 ± 0.000")


def test_parameters_are_shown_as_params_yaml_may_have_them():
    params = load_params(ROOT / "params.yaml")
    shown, yaml = shown_params(params), YAML(typ="safe")
    assert shown["data.table"] == "null"
    for name, text in shown.items():
        assert yaml.load(text) == reduce(getitem, name.split("."), params.model_dump())


def test_the_goal_has_its_thresholds_values_and_replicates():
    validation, training = goal_table(build_results())
    assert validation == {
        "condition": "validation accuracy above 85 %",
        "baseline": "79.0 %: not met in the mean; 0 of 2 replicates meet it",
        "differential": "86.5 %: met in the mean; 2 of 2 replicates meet it",
    }
    assert training["differential"] == "90.0 %: met in the mean; 2 of 2 replicates meet it"
    assert row(build_results(), "goal")["differential"] == "met"
    assert row(build_results(), "replicates meeting it")["baseline"] == "0 of 2"


def with_goal(met, meeting):
    results = build_results()
    goal = results.evaluation.goal
    metric = goal.differential.val_accuracy.model_copy(update={"met": met, "replicates_meeting": meeting})
    arm = goal.differential.model_copy(update={"met": met, "replicates_meeting": meeting, "val_accuracy": metric})
    return with_evaluation(results, goal=goal.model_copy(update={"differential": arm}))


@pytest.mark.parametrize(
    ("met", "meeting", "says"),
    [
        (True, 2, "meets the goal in the mean; 2 of 2 replicates meet it."),
        (True, 1, "meets the goal in the mean; 1 of 2 replicates meets it."),
        (True, 0, "meets the goal in the mean; 0 of 2 replicates meet it."),
        (False, 1, "does not meet the goal in the mean; 1 of 2 replicates meets it."),
        (False, 0, "does not meet the goal in the mean; 0 of 2 replicates meet it."),
    ],
)
def test_the_goal_sentence_is_true_whatever_the_numbers(met, meeting, says):
    assert f"The differential arm {says}" in goal_sentence(with_goal(met, meeting))


@pytest.mark.parametrize(
    ("met", "meeting", "says"),
    [
        (True, 2, "met in the mean; 2 of 2 replicates meet it"),
        (True, 1, "met in the mean; 1 of 2 replicates meets it"),
        (False, 1, "not met in the mean; 1 of 2 replicates meets it"),
        (False, 0, "not met in the mean; 0 of 2 replicates meet it"),
    ],
)
def test_the_goal_table_keeps_the_mean_and_the_replicates_apart(met, meeting, says):
    validation, _ = goal_table(with_goal(met, meeting))
    assert validation["differential"].endswith(f"%: {says}")


def test_the_goal_sentence_has_both_gaps_with_their_intervals():
    said = goal_sentence(build_results())
    assert "Its overfitting gap less the baseline's is −13.5 points (−" in said
    assert "where training accuracy is counted while training, and −13.5 (−" in said
    assert said.endswith("(95 % intervals, not the verdict's).")
    alone = goal_sentence(build_results(seeds=[1], **UNKNOWN))
    assert re.search(r"mean; [01] of 1 replicate meets it\.", alone)
    assert "is −14.0 points where training accuracy is counted while training, and −14.0 where" in alone
    assert alone.endswith("(no interval: one replicate says nothing of the chance between replicates).")


RATES_SAID = "rates 0.0001 / 0.01 (backbone / head) against 0.01 / 0.01"


def test_the_verdict_is_one_sentence_with_both_settings_and_its_interval():
    assert verdict_sentence(build_results()) == (
        f"Better: {RATES_SAID}, by test accuracy; differential − baseline is +8.0 points (95 % interval +2.0 to +14.0)."
    )


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        ("worse", f"Worse: {RATES_SAID}, by test accuracy; differential"),
        ("no difference shown", f"No difference shown in test accuracy: {RATES_SAID}; differential"),
        ("unstable", "Unstable: 1 of 2 replicates of the baseline arm failed (diverged with seed 2), 0 of 2 "),
    ],
)
def test_each_decision_has_its_words(decision, says):
    failures = {"baseline": {"diverged": [2]}, "differential": {}}
    assert verdict_sentence(build_results(decision=decision, failures=failures, reached_at=None)).startswith(says)


def test_a_loss_is_said_in_its_own_unit():
    loss = {"metric": "loss", "estimate": -0.05, "low": -0.08, "high": -0.02}
    assert verdict_sentence(build_results(**loss)).endswith(
        "by test loss; differential − baseline is −0.050 (95 % interval −0.080 to −0.020)."
    )
    small = verdict_sentence(build_results(**loss, decision="no difference shown", reached_at=None))
    assert small.endswith("; a true difference of 0.09 would have been shown about four times in five.")


def test_where_none_is_shown_it_says_which_difference_would_have_been():
    none = {"decision": "no difference shown", "estimate": 0.01, "low": -0.04, "high": 0.06, "reached_at": None}
    assert verdict_sentence(build_results(**none)).endswith(
        "(95 % interval −4.0 to +6.0); a true difference of 9 points would have been shown about four times in five."
    )


LOOKS = [
    {"replicates": 3, "interval": {**INTERVAL, "level": 1 - 0.05 / 7}, "decision": "no difference shown"},
    {"replicates": 6, "interval": {"estimate": -0.0001, "reason": "none"}, "decision": "no difference shown"},
    {"replicates": 12, "interval": INTERVAL, "decision": "better"},
]


def test_of_several_looks_the_verdict_says_which_decided():
    assert verdict_sentence(build_results(looks=LOOKS, reached_at=12, level=1 - 0.05 * 12 / 21)).endswith(
        "(97.1 % interval +2.0 to +14.0), decided at look 3, after 12 replicates."
    )
    assert "look" not in verdict_sentence(build_results())


def test_the_looks_have_a_row_each():
    first, second, _ = looks_table(build_results(looks=LOOKS, reached_at=12))
    assert first == {
        "replicates": "3",
        "level": "99.29 %",
        "difference": "+8.0 points",
        "interval": "+2.0 to +14.0",
        "decision": "no difference shown",
    }
    assert (second["level"], second["difference"], second["interval"]) == ("", "+0.0 points", "unknown")


def test_one_seed_has_no_interval_and_says_so():
    reason = "one replicate says nothing of the chance between replicates"
    alone = build_results(seeds=[1], decision="no difference shown", reached_at=None, **UNKNOWN, reason=reason)
    assert verdict_sentence(alone).endswith(f"is +8.0 points, without an interval: {reason}.")
    assert row(alone, "test accuracy, 95 % interval")["difference"] == "unknown"
    assert row(alone, "test accuracy")["baseline"] == "78.0 %"


def test_an_interval_that_says_nothing_says_so():
    """As that of three images."""
    useless = {"low": -1.0, "high": 1.0, "minimum_detectable_difference": 4.7, "reached_at": None}
    assert verdict_sentence(build_results(decision="no difference shown", **useless)).endswith(
        "(95 % interval −100.0 to +100.0); so few data would show no difference, however large."
    )


@pytest.mark.parametrize(
    ("effective", "says"),
    [
        (6, " The test images come in groups, an effective number of 6: too few for a verdict, which needs 10."),
        (13, " The test images come in groups, an effective number of 13: few, so take the interval with care."),
        (44, " The test images come in groups, an effective number of 44."),
    ],
)
def test_of_groups_it_says_how_many_they_come_to(effective, says):
    assert verdict_sentence(build_results(units="groups", effective_units=effective)).endswith(says)
    assert "groups" not in verdict_sentence(build_results(units="images", effective_units=effective))


def test_groups_that_are_too_few_for_an_interval_are_told_once():
    reason = "an effective number of 2.6 groups is too few for an interval"
    few = build_results(decision="no difference shown", units="groups", effective_units=2.6, **UNKNOWN, reason=reason)
    assert verdict_sentence(few).count("effective number") == 1


def test_failures_are_named_by_arm_kind_and_seed():
    failures = {"baseline": {"diverged": [1], "collapsed": [2]}, "differential": {"collapsed": [1]}}
    assert failures_sentence(build_results(failures=failures)) == (
        "2 of 2 replicates of the baseline arm failed (diverged with seed 1; collapsed with seed 2), 1 of 2 replicates "
        "of the differential arm failed (collapsed with seed 1). A replicate that diverged counts as the majority "
        "class, with a loss of ln C."
    )
    one = failures_sentence(build_results(failures={"baseline": {}, "differential": {"diverged": [1, 2]}}))
    assert one.startswith(
        "0 of 2 replicates of the baseline arm failed, 2 of 2 replicates of the differential arm failed (diverged "
        "with seeds 1, 2)."
    )
    assert failures_sentence(build_results()) == ""


def test_a_replicate_that_failed_both_ways_is_counted_once():
    failures = Failures(baseline=ArmFailures(diverged=[2, 1], collapsed=[2]), differential=ArmFailures())
    assert (failures.of("baseline"), failures.of("differential")) == ([1, 2], [])


def test_the_conditions_say_what_the_interval_counts_and_what_it_cannot():
    said = conditions_sentence(build_results())
    assert "(the same 30 test images), and which test images there were, as if each were drawn by itself." in said
    assert "It cannot count other pools of images" in said
    assert said.endswith("Whether either arm would do better with rates of its own choice, it does not say.")


def test_the_conditions_hold_where_every_replicate_trains_on_the_same_images():
    assert "its training images where it draws its own" in conditions_sentence(build_results())


def test_the_conditions_know_folds_and_groups():
    said = conditions_sentence(build_results(splits={"folds": 2}, units="groups"))
    assert "(each replicate its own test images), and which test images there were, groups of them." in said


def test_no_failure_leaves_a_rate_of_failures_open():
    bound = f"a rate of failures up to {100 * failure_bound(2):.0f} % open."
    assert bound in conditions_sentence(build_results())
    failed = build_results(failures={"baseline": {"diverged": [2]}, "differential": {}})
    assert "rate of failures" not in conditions_sentence(failed)
    assert "rate of failures" not in conditions_sentence(build_results(seeds=[1]))


def test_the_table_of_checks_tells_pairs_from_images():
    counts = {"near_duplicate_images": 5, "checks": {"empty": 0, "near_duplicate_pair": 4, "cmyk": 1234}}
    results = build_results()
    results = replace(results, prepare=results.prepare.model_copy(update=counts))
    assert [(row["check"], row["found"]) for row in checks_table(results)] == [
        ("near duplicate pair", "4 pairs among 5 images"),
        ("cmyk", "1,234"),
    ]


def test_near_duplicates_are_told_with_the_difference_without_them():
    assert near_duplicates_sentence(build_results()) == ""
    arms = {"arms": {"baseline": 0.8, "differential": 0.87}}
    apart = {"near_duplicates": 3.5, "without_near_duplicates": {**INTERVAL, "estimate": 0.07, **arms}}
    assert near_duplicates_sentence(build_results(**apart)) == (
        "3.5 test images (in a replicate, on average) look almost like one it trained or validated on; without them "
        "test accuracy is baseline 80.0 %, differential 87.0 %, and the difference +7.0 points (+2.0 to +14.0)."
    )
    without_ends = {"near_duplicates": 1, "without_near_duplicates": {"estimate": 0.07, "reason": "few", **arms}}
    assert near_duplicates_sentence(build_results(**without_ends)).endswith(
        "and the difference +7.0 points (without an interval: few)."
    )
    assert near_duplicates_sentence(build_results(near_duplicates=2)).endswith("without them a class would be missing.")


def test_where_all_replicates_failed_the_headline_says_so_and_advises_no_setting():
    failures = {arm: {"collapsed": [1, 2]} for arm in ARMS}
    results = build_results(decision="no difference shown", reached_at=None, failures=failures)
    assert verdict_sentence(results).endswith(
        "2 of 2 replicates of the baseline arm failed (collapsed with seeds 1, 2), 2 of 2 replicates of the "
        "differential arm failed (collapsed with seeds 1, 2)."
    )
    assert next_sentence(results).startswith(
        "First change the rates, or train longer, until no replicate of either arm fails. "
    )


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        ("better", "Of the two, take the differential rates, 0.0001 / 0.01 (backbone / head). "),
        ("worse", "Of the two, take the baseline's rates, 0.01 / 0.01 (backbone / head). "),
        ("no difference shown", "Neither setting is shown to be the better one. "),
    ],
)
def test_what_to_take_follows_the_verdict(decision, says):
    assert next_sentence(build_results(decision=decision)).startswith(says)
    same = replace(build_results(decision=decision), training=dict.fromkeys(ARMS, build_results().training["baseline"]))
    assert next_sentence(same).startswith("Both arms have the same rates, so there is nothing to choose between")


def test_of_an_unstable_arm_the_page_says_which_to_mend():
    failures = {"baseline": {"diverged": [2]}, "differential": {}}
    assert next_sentence(build_results(decision="unstable", failures=failures)).startswith(
        "First change the rates, or train longer, until no replicate of the baseline arm fails. "
    )


def with_val_losses(**losses):
    """Results whose replicates have these validation losses on average, as `evaluate` scored them."""
    results = build_results()
    val = results.evaluation.val
    arms = {
        arm: val.arm(arm).model_copy(update={"mean": {**val.arm(arm).mean, "loss": losses.get(arm, 0.1)}})
        for arm in ARMS
    }
    return with_evaluation(results, val=val.model_copy(update=arms))


def test_a_loss_worse_than_that_of_guessing_is_told_whatever_the_verdict():
    assert guessing_sentence(build_results()) == ""
    assert guessing_sentence(with_val_losses(baseline=31.4)).startswith(
        "The validation loss is 31.4 in the baseline arm, where guessing has 0.693 (ln C): "
    )


def test_the_loss_that_is_worse_than_guessing_is_the_one_of_the_tables():
    # that of the last epoch is of float32's logits, and has no bound where they are huge
    results = with_val_losses(baseline=31.4)
    mean = {**results.training["baseline"].mean, "val_loss": 4.5e9}
    training = {**results.training, "baseline": results.training["baseline"].model_copy(update={"mean": mean})}
    assert "31.4 in the baseline arm" in guessing_sentence(replace(results, training=training))


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ({"baseline": 0.6933}, "0.6933 in the baseline arm, where guessing has 0.6931 (ln C)"),
        (
            {"baseline": 31.4, "differential": 0.693149},
            "31.4 in the baseline arm and 0.693149 in the differential arm, where guessing has 0.693147 (ln C)",
        ),
    ],
)
def test_a_loss_and_that_of_guessing_have_the_digits_that_tell_them_apart(losses, says):
    assert guessing_sentence(with_val_losses(**losses)).startswith(f"The validation loss is {says}: ")


def test_a_loss_that_is_that_of_guessing_to_six_digits_is_not_called_worse():
    assert guessing_sentence(with_val_losses(baseline=0.69314719)) == ""


def test_beside_an_unstable_verdict_it_says_that_the_looks_decide_on_the_difference_alone():
    failures = {"baseline": {"diverged": [2]}, "differential": {}}
    unstable = build_results(decision="unstable", failures=failures, reached_at=None)
    assert looks_sentence(unstable).startswith("Each look decides on the difference alone. ")
    assert looks_sentence(build_results()) == ""


def test_where_nothing_can_be_planned_nobody_is_sent_to_the_plan():
    none = {"decision": "no difference shown", "reached_at": None}
    assert "summary --plan" not in next_sentence(build_results(**none))
    assert "`python -m stages.summary --plan` says what" in next_sentence(build_results(**none, plan=plan()))


def test_without_an_interval_nobody_says_what_it_counts():
    alone = build_results(seeds=[1], decision="no difference shown", reached_at=None, **UNKNOWN, reason="one replicate")
    assert conditions_sentence(alone).startswith("The verdict has no interval, so it counts no chance: neither")


def test_a_class_of_which_replicates_test_different_numbers_has_one_row():
    of_replicate = {"split": "test", "class": "cat", "arm": "baseline", "recall": 0.5, "f1": 0.5}
    rows = [
        {**of_replicate, "seed": seed, "samples": samples, "precision": precision}
        for seed, samples, precision in ((1, 6, 0.5), (2, 7, 0.7))
    ]
    (row,) = class_table(pd.DataFrame(rows))
    assert (row["samples"], row["precision"]) == ("6 to 7", "60.0 ± 14.1 %")
    (single,) = class_table(pd.DataFrame(rows[:1]))
    assert (single["samples"], single["precision"]) == ("6", "50.0 %")


def test_arms_that_were_not_trained_alike_are_told():
    """As after training the one arm here that came from another machine's cache there."""
    results = build_results()
    assert environment_sentence(results) == ""
    there, here = {"processor": "A, AVX2", "torch": "2.13.0"}, {"processor": "B, AVX512", "torch": "2.13.0"}
    training = {
        arm: results.training[arm].model_copy(update={"environment": environment})
        for arm, environment in zip(ARMS, (there, here), strict=True)
    }
    assert environment_sentence(replace(results, training=training)).startswith(
        "The arms were not trained alike (processor: A, AVX2 and B, AVX512; baseline's first): part of their "
        "difference is due to that, about as much as other seeds would do: the baseline's replicates have a standard "
    )


def plan(replicates=(2, 3, 5, 10, 20, 50), images=(1.0, 4.0)):
    planned = plan_intervals(sample([0.01, 0.05, -0.02, 0.03]), list(replicates), list(images), level=0.95)
    return [of.model_dump() for of in planned]


def test_the_plan_has_a_row_for_each_number_of_replicates_and_a_column_for_each_of_images():
    results = build_results(plan=plan())
    rows = plan_table(results)
    assert [of["replicates"] for of in rows] == ["2", "3", "5", "10", "20", "50"]
    assert list(rows[0]) == ["replicates", "30 images", "120 images", "shown with 30"]
    first = results.evaluation.plan[0]
    assert rows[0]["30 images"] == (
        f"±{100 * first.half_width:.1f} ({100 * first.half_width_low:.1f} to {100 * first.half_width_high:.1f})"
    )
    assert rows[0]["shown with 30"].startswith(f"{100 * first.shown:.1f} (")


def test_the_replicates_that_show_a_difference_are_told_with_a_range():
    results = build_results(plan=plan())
    of_images = [planned for planned in results.evaluation.plan if planned.images == 30]
    enough, larger = of_images[3], 100 * of_images[3].shown + 0.001
    said = replicates_for(results, larger)
    assert f"points in test accuracy is shown four times in five by about {enough.replicates} replicates" in said
    low, high = re.search(r"range (\d+) to (\d+|more than 50)\)", said).groups()
    assert int(low) <= enough.replicates
    assert high.startswith("more") or int(high) >= enough.replicates


def test_a_range_may_end_beyond_what_is_planned_for():
    results = build_results(plan=plan())
    last = [planned for planned in results.evaluation.plan if planned.images == 30][-1]
    between = 50 * (last.shown + last.shown_high)
    assert last.shown < between / 100 < last.shown_high
    assert replicates_for(results, between).endswith("to more than 50)")


def test_a_difference_that_no_number_of_replicates_shows_asks_for_images():
    said = replicates_for(build_results(plan=plan()), 0.01)
    assert said.startswith("a true difference of 0.01 points in test accuracy is not shown by 50 replicates either")
    assert "with 30 test images that is about the least; more test images would help" in said


WIDE = {
    "replicates": 2, "images": 30, "half_width": 0.827, "half_width_low": 0.545, "half_width_high": 2.548,
    "shown": 1.087, "shown_low": 0.716, "shown_high": 3.348,
}  # fmt: skip


def test_a_plan_promises_nothing_that_cannot_be():
    """Half-widths beyond 100 points, and differences beyond them."""
    results = build_results(plan=[WIDE])
    (row,) = plan_table(results)
    assert row["30 images"] == "±82.7 (54.5 to 100.0)"
    assert row["shown with 30"] == "none (71.6 to none)"
    assert plan_sentence(results) == 'Where it says "none", no difference that test accuracy can have would be shown.'
    assert plan_sentence(build_results(plan=plan())) == ""
    assert replicates_for(results, 100).endswith("by 2 replicates either, which show none: with 30 test images that "
                                                 "is about the least; more test images would help")  # fmt: skip
    nothing = [{**WIDE, "shown_low": 1.1}]
    assert plan_table(build_results(plan=nothing))[0]["shown with 30"] == "none"
    chart = planned_half_widths([planned.model_copy(update={"replicates": 3}) for planned in results.evaluation.plan],
                                100, 1)  # fmt: skip
    drawn = chart.data
    assert drawn[["low", "half-width", "high"]].to_numpy().tolist() == [pytest.approx([54.5, 82.7, 100])]


def test_a_plan_whose_ranges_have_no_width_says_what_they_do_not_show():
    """As where the replicates of one round of folds happen to agree."""
    same = {"half_width_low": 0.161, "half_width": 0.161, "half_width_high": 0.161, "shown_high": 0.3}
    said = plan_sentence(build_results(plan=[{**WIDE, **same}]))
    assert said.startswith("Where both ends of a range are equal, the replicates differed less than their test images")
    assert "none" not in said


def test_of_a_loss_any_difference_can_be():
    results = build_results(plan=[WIDE], metric="loss")
    assert plan_table(results)[0]["30 images"] == "±0.827 (0.545 to 2.548)"
    assert plan_sentence(results) == ""


def test_more_than_two_arms_can_differ_by_is_not_planned_for():
    with pytest.raises(UserError, match=r"--replicates-for: test accuracy cannot differ by more than 100 points: give"):
        replicates_for(build_results(plan=plan()), 120)


def test_the_bands_of_learning_curves_stay_where_a_metric_can_be():
    curves = pd.DataFrame({"seed": [1, 2], "epoch": [1, 1], "val_accuracy": [0.0, 1.0], "val_loss": [0.0, 5.0]})
    for metric, low, high in (("accuracy", 0, 1), ("loss", 0, 2.5 + 5 / 2**0.5)):
        chart = learning_curves(dict.fromkeys(ARMS, curves), "val", metric)
        drawn = chart.data
        assert drawn[["low", "high"]].to_numpy().tolist() == 2 * [pytest.approx([low, high])]


def test_without_a_plan_it_says_why():
    alone = build_results(seeds=[1], decision="no difference shown", reached_at=None, **UNKNOWN, reason="too few")
    assert replicates_for(alone, 2.0) == "too few: nothing can be planned from it"
    assert plan_table(alone) == []


def test_a_table_in_markdown_keeps_what_it_is_given_and_escapes_bars():
    assert markdown_table(["", "a|b"], [["x|y", "0.010"]]).splitlines() == [
        r"|      |   a\|b |",
        r"|:-----|-------:|",
        r"| x\|y |  0.010 |",
    ]


NAMES = ["plain", "</script><script>alert(1)</script>"]


def charts():
    curves = pd.DataFrame({"seed": [1, 1], "epoch": [1, 2], "train_accuracy": [0.5, 0.6], "val_accuracy": [0.5, 0.4]})
    rates = pd.DataFrame({"step": [1, 2], "layer_group": ["stem", "head"], "learning_rate": [0.1, 0.0]})
    tests = pd.DataFrame({"part": ["head", "all"], "learning_rate": [0.01, 0.1], "smoothed_loss": [0.5, 0.4]})
    bins = pd.DataFrame({"arm": "baseline", "bin": [8, 9], "samples": 3, "confidence": [0.6, 0.7], "accuracy": 0.5})
    return [
        learning_curves(dict.fromkeys(ARMS, curves), "train", "accuracy"),
        group_marks({arm: {"stem": 0.1, "head": 0.0} for arm in ARMS}, "learning rate"),
        rate_curves(rates, "baseline"),
        confusion_matrix(pd.DataFrame({"actual": NAMES, "predicted": NAMES}), NAMES, "baseline"),
        reliability_diagram(bins),
        range_tests(tests, {"head": 0.01}),
        metric_differences(build_results().evaluation),
        metric_differences(build_results(seeds=[1], **UNKNOWN, metric="loss").evaluation),
        planned_half_widths(build_results(plan=plan()).evaluation.plan, 100, 1),
        planned_half_widths(build_results(plan=plan()).evaluation.plan, 1, np.inf),
    ]


def test_the_picture_of_the_differences_turns_every_metric_so_that_the_differential_arm_is_better_on_the_right():
    last = {"low": -0.2, "high": -0.1, "estimate": -0.15}
    chart = metric_differences(build_results(metric="loss", **last).evaluation)
    rows = {row["metric"]: row for layer in chart.layer for row in layer.data.to_dict("records") if "low" in row}
    assert len(rows) == len(HIGHER_IS_BETTER)
    of_verdict = rows["loss, lower is better (verdict)"]
    assert (of_verdict["low"], of_verdict["estimate"], of_verdict["high"]) == pytest.approx((10, 15, 20))
    assert (rows["accuracy"]["low"], rows["accuracy"]["high"]) == pytest.approx((2, 14))
    assert (rows["Brier score, lower is better"]["low"]) == pytest.approx(-14)
    dots = [row for layer in chart.layer for row in layer.data.to_dict("records") if "seed" in row]
    assert sorted(row["estimate"] for row in dots if row["metric"] == "accuracy") == pytest.approx([6, 9])
    assert "loss, lower is better (verdict)" in as_svg(chart)


def balance(classes, images):
    rows = [(split, f"class {number}", images) for split in ("train", "val", "test") for number in range(classes)]
    return class_balance(pd.DataFrame(rows, columns=["split", "class", "images"]), 16)


@pytest.mark.parametrize("images", [1, 2, 3, 1234])
def test_an_axis_of_counts_has_no_number_twice(images):
    labels = re.findall(r">([\d,.]+)</text>", as_svg(balance(2, images)))
    assert len(labels) == len(set(labels)) > 1
    assert f"{images // 1000 * 1000 or images:,}" in labels


def test_of_many_classes_the_chart_shows_as_many_as_the_contact_sheet_and_says_so():
    drawn = as_svg(balance(120, 5))
    assert "the first 16 of 120 classes<" in drawn
    assert "class 15<" in drawn
    assert "class 16<" not in drawn
    assert "the first" not in as_svg(balance(16, 5))


def test_a_thousand_classes_draw_the_pairs_that_occur_and_no_million():
    names = [f"class {number:03}" for number in range(1000)]
    chart = confusion_matrix(pd.DataFrame({"actual": names, "predicted": names[::-1]}), names, "baseline")
    assert as_svg(chart).count("<path") < 3000
    assert len(chart.data) == 1000


@pytest.mark.parametrize("number", range(10))
def test_charts_hold_no_script_and_name_no_other_file(number):
    chart = charts()[number]
    svg = as_svg(chart)
    assert svg.startswith("<svg")
    assert "<script" not in svg
    assert not [link for link in re.findall(r"https?://[^\"]*", svg) if not link.startswith("http://www.w3.org")]
    assert svg == as_svg(chart)
    specification = as_specification(chart, height=200)
    assert "<" not in specification
    assert specification == as_specification(chart, height=200)
    assert as_svg(side_by_side([chart, chart])).startswith("<svg")


def test_disagreements_come_with_most_seeds_first_and_no_more_than_are_shown():
    random = np.random.default_rng(0)
    images = [f"image-{number}" for number in range(30)]
    prepared = Prepared(
        random.integers(255, size=(30, 8, 8, 1), dtype=np.uint8),
        pd.DataFrame({"image": images, "label": 0, "class": "a", "stratum": "a", "split": "val"}),
    )
    table = pd.DataFrame({"seed": [1, 2, 3] * 30, "image": np.repeat(images, 3), "actual": "a", "predicted": "a"})
    other = table.copy()
    other.loc[(other["image"] == "image-7"), "predicted"] = "b"
    other.loc[(other["image"] == "image-3") & (other["seed"] == 2), "predicted"] = "b"
    found = find_disagreements({"baseline": table, "differential": other}, prepared)
    assert [(image.name, image.predicted["differential"]) for image in found] == [
        ("image-7", "b (3 of 3)"),
        ("image-3", "a (2 of 3), b (1 of 3)"),
    ]
    assert found[0].predicted["baseline"] == "a (3 of 3)"
    assert found[0].picture.startswith("data:image/png;base64,")
    everywhere = find_disagreements({"baseline": table, "differential": table.assign(predicted="b")}, prepared)
    assert len(everywhere) == MAX_SHOWN
