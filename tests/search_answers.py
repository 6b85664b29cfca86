"""Answers of a search, as small as they can be, for the tests of what is made of them."""

from typing import Any

from stages.metrics_files import Interval
from stages.search_files import RepeatedSearch, RepeatsAnswer, SearchAnswer

METRICS = {
    "val_loss": 0.35,
    "val_accuracy": 0.86,
    "train_loss": 0.2,
    "train_accuracy": 0.92,
    "overfitting_gap": 0.06,
}
PLACE = {
    "val_accuracy": {"mean": 0.84, "low": 0.82, "high": 0.86},
    "behind_best": {"mean": 0.02, "low": -0.01, "high": 0.05},
}


def arm(values: dict[str, float], **changes: Any) -> dict[str, Any]:
    """The trials of one arm."""
    best = {"trial": 7, "values": values, "metrics": METRICS, "edges": changes.pop("edges", [])}
    return {"trials": 48, "diverged": 0, "pruned": 0, "best": best, "chosen": best, **changes}


def search_answer(**changes: Any) -> SearchAnswer:
    """What a search says in which nothing is shown."""
    point = {"k": 1, "low": -0.2, "difference": 0.03, "high": 0.3}
    content = {
        "study": "sgd",
        "images": "0" * 64,
        "objective": "val_loss",
        "sampler": "random",
        "epochs": 6,
        "train": 522,
        "val": 212,
        "arms": {
            "baseline": arm({"lr.uniform": 0.0102}),
            "differential": arm({"lr.head": 0.0099, "lr.backbone": 0.0015}),
        },
        "curves": {
            "level": 0.95,
            "reach": 2,
            "reach_of_twice": 8,
            "differences": {"differential": [point, {**point, "k": 2}]},
        },
        "surface": {
            "noise": 0.02,
            "ahead": {
                "margin": 0.01,
                "chance": 0.3,
                "without_gain": 0.25,
                "as_high_without_gain": 0.4,
                "simulations": 200,
            },
            "uniform": {"low": 0.004, "high": 0.02},
            "backbone": {"low": 0.001, "high": 0.02},
            "head": {"low": 0.005, "high": 0.03},
            "places": {
                "baseline": {"backbone": 0.0102, "head": 0.0102, **PLACE},
                "differential": {"backbone": 0.0015, "head": 0.0099, **PLACE},
                "rule_of_thumb": {"backbone": 0.0001, "head": 0.01, **PLACE},
            },
        },
    }
    return SearchAnswer.model_validate({**content, **changes})


def repeats_answer(low: float | None = -0.02, high: float | None = 0.03, **changes: Any) -> RepeatsAnswer:
    """What six independent searches say, with that interval."""
    one = {"baseline": {"lr.uniform": 0.01}, "differential": {"lr.head": 0.01, "lr.backbone": 0.002}}
    searches = [
        RepeatedSearch(seed=901_000 + number, values=one, scores={"baseline": 0.84, "differential": 0.85}, diverged=[])
        for number in range(6)
    ]
    estimate = (low + high) / 2 if low is not None and high is not None else 0.005
    reason = None if low is not None else "there is one replicate"
    found = Interval(estimate=estimate, low=low, high=high, level=None if low is None else 0.95, reason=reason)
    content = {
        "study": "sgd",
        "trials": 8,
        "metric": "accuracy",
        "interval": found,
        "tested": 1489,
        "searches": searches,
        **changes,
    }
    return RepeatsAnswer.model_validate(content)
