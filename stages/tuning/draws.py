"""What each trial draws, by Optuna's samplers, in rounds: all of a round are drawn before any of it has a result.

Nothing but the results decides what comes next, so that workers, order and interruptions change no draw.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning

from stages.params import Params, Sampler, SearchArm, SearchRange, Study
from stages.tuning.space import Draw, ranges_of, trial_seeds, values_of

ROUND = 4  # trials of an arm that a Gaussian process draws at a time
STARTUP = 8  # trials of an arm that it draws at random first

Scores = Mapping[tuple[SearchArm, int], float]  # (arm, number) -> what is minimized
Run = Callable[[list[Draw]], Scores]


def run_draws(params: Params, study: Study, arms: Sequence[SearchArm], trials: int, run: Run) -> None:
    """Draw all trials of all arms and have each round of them run.

    Args:
        params: of the search.
        study: what is drawn.
        arms: that draw, equally many trials each.
        trials: of each arm.
        run: trains the trials of a round, and returns what each came to.
    """
    sampler = params.search.sampler
    startup = min(STARTUP, trials)
    studies = {
        arm: optuna.create_study(sampler=make_sampler(sampler, params.search.seed, arm, startup)) for arm in arms
    }
    sizes = [startup, *[ROUND] * trials] if sampler == "gp" else [trials]
    done = 0
    while done < trials:
        size = min(sizes.pop(0), trials - done)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Clip non-finite values")  # the worst score is infinite
            asked = [
                (arm, number, studies[arm].ask(distributions(study, arm)))
                for arm in arms
                for number in range(done, done + size)
            ]
        draws = [
            Draw(arm, number, trial_seeds(params, arm, number), trial.params, values_of(trial.params, study))
            for arm, number, trial in asked
        ]
        scores = run(draws)
        for arm, number, trial in asked:
            studies[arm].tell(trial, scores[arm, number])
        done += size


def _distribution(found: SearchRange) -> BaseDistribution:
    if found.is_whole:
        return IntDistribution(int(found.low), int(found.high), log=found.log)
    return FloatDistribution(found.low, found.high, log=found.log)


def distributions(study: Study, arm: SearchArm) -> dict[str, BaseDistribution]:
    """Return Optuna's description of what an arm draws; a share of another parameter has its range as a share."""
    return {name: _distribution(found) for name, found in ranges_of(study, arm).items()}


def make_sampler(kind: Sampler, seed: int, arm: SearchArm, startup: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler for one arm, which draws the same again from the same seed.

    Args:
        kind: as params.yaml names it.
        seed: of the search.
        arm: that draws.
        startup: trials that a Gaussian process needs before it draws anything but at random.
    """
    derived = int.from_bytes(hashlib.blake2b(f"{seed}/{arm}".encode(), digest_size=4).digest())
    match kind:
        case "random":
            return optuna.samplers.RandomSampler(seed=derived)
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return optuna.samplers.QMCSampler(seed=derived, scramble=True)
        case "gp":
            return optuna.samplers.GPSampler(seed=derived, n_startup_trials=startup, deterministic_objective=False)
