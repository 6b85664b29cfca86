import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages.evaluation.changes import judge_change, judge_changes


def predictions(seed, replicates=6, images=60, shift=0.0, spread=0.0):
    """Losses and predictions of replicates that validate on draws from the same images; some are always hard."""
    random = np.random.default_rng(seed)
    hardness = np.random.default_rng(1).normal(0.4, 0.3, 4 * images)
    tables = []
    for replicate in range(replicates):
        drawn = np.random.default_rng(100 + replicate).choice(4 * images, images, replace=False)
        moved = shift + random.normal(0, spread)
        losses = hardness[drawn] + moved + random.normal(0, 0.2, images)
        tables.append(
            pd.DataFrame(
                {
                    "seed": replicate,
                    "image": [f"{name}.png" for name in drawn],
                    "actual": "cat",
                    "predicted": np.where(losses < 0.7, "cat", "dog"),
                    "loss": losses,
                }
            )
        )
    return pd.concat(tables)


def test_the_change_is_that_of_the_means_over_replicates():
    before, after = predictions(1), predictions(2, shift=0.1)
    found, _ = judge_change("val_loss", before, after, {})
    means = [table.groupby("seed")["loss"].mean().mean() for table in (before, after)]
    assert found.estimate == pytest.approx(means[1] - means[0])
    right = [(table["actual"] == table["predicted"]).groupby(table["seed"]).mean().mean() for table in (before, after)]
    assert judge_change("val_accuracy", before, after, {})[0].estimate == pytest.approx(right[1] - right[0])


@pytest.mark.parametrize(("shift", "decision"), [(0.2, "worse"), (-0.2, "better")])
def test_which_way_is_better_depends_on_the_metric(shift, decision):
    before, after = predictions(1), predictions(2, shift=shift)
    assert judge_change("val_loss", before, after, {})[1] == decision
    assert judge_change("val_accuracy", before, after, {})[1] == decision


def test_rows_in_another_order_are_paired_all_the_same():
    before, after = predictions(1), predictions(2)
    shuffled = after.sample(frac=1, random_state=0)
    assert judge_change("val_loss", before, after, {}) == judge_change("val_loss", before, shuffled, {})


def test_three_images_of_sixty_are_within_chance_though_both_replicates_gain_them():
    """Four were gained, and one lost: replicates that gain the same have no spread, but images are chance, too."""
    before = predictions(1, replicates=2)
    after = before.copy()
    column = after.columns.get_loc("predicted")
    for seed in (0, 1):
        of_seed = (before["seed"] == seed).to_numpy()
        after.iloc[np.flatnonzero(of_seed & (before["predicted"] == "dog"))[:4], column] = "cat"
        after.iloc[np.flatnonzero(of_seed & (before["predicted"] == "cat"))[:1], column] = "dog"
    found, decision = judge_change("val_accuracy", before, after, {})
    assert found.estimate == pytest.approx(0.05)
    assert decision == "no difference shown"


def test_images_of_few_groups_decide_nothing():
    before, after = predictions(1), predictions(2, shift=0.5)
    groups = {image: f"photographer {len(image) % 3}" for image in before["image"]}
    assert judge_change("val_loss", before, after, groups)[1] == "no difference shown"


def test_one_replicate_has_no_interval_and_a_loss_that_was_not_recorded_is_not_judged():
    before, after = predictions(1, replicates=1), predictions(2, replicates=1, shift=0.5)
    assert judge_change("val_loss", before, after, {})[0].low is None
    assert set(judge_changes(before.drop(columns="loss"), after, {})) == {"val_accuracy"}
    assert set(judge_changes(before, after, {})) == {"val_accuracy", "val_loss"}


@pytest.mark.slow
@pytest.mark.parametrize(("replicates", "spread"), [(2, 0.0), (3, 0.05), (6, 0.0), (6, 0.05)])
def test_without_any_change_about_one_in_twenty_is_marked_at_most(replicates, spread):
    trials = 400
    pairs = [
        (predictions(2 * trial, replicates, spread=spread), predictions(2 * trial + 1, replicates, spread=spread))
        for trial in range(trials)
    ]
    marked = sum(judge_change("val_loss", *pair, {})[1] != "no difference shown" for pair in pairs)
    assert marked <= stats.binom.ppf(0.999, trials, 0.05)
