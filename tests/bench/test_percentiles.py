import random

from mcast.bench.percentiles import curve_us, summary_us


def test_percentiles_are_exact_samples() -> None:
    samples = [index / 1e6 for index in range(1, 2_001)]
    random.Random(1).shuffle(samples)
    assert summary_us(samples) == {
        "p50": 1_000.0, "p90": 1_800.0, "p99": 1_980.0, "p99.9": 1_998.0, "max": 2_000.0, "mean": 1_000.5,
        "count": 2_000,
    }  # fmt: skip


def test_one_sample_is_all_its_percentiles() -> None:
    reported = summary_us([0.25])
    assert {reported[name] for name in ("p50", "p99.9", "max", "mean")} == {250_000.0}


def test_a_curve_goes_as_far_as_samples_tell_shares_apart() -> None:
    assert curve_us([0.001]) == [[0.0, 1_000.0]]
    hundred = curve_us([index / 1e6 for index in range(1, 101)])
    assert hundred[0] == [0.0, 1.0]
    assert hundred[-1] == [0.99, 99.0]
