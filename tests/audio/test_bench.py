"""The bench's arithmetic, and that every measurement runs."""

from __future__ import annotations

import pytest

from audio import bench

COSTS = dict.fromkeys(bench.BATCHES, 1.0)


def table(cost: dict[int, float]) -> bench.Table:
    names = [each.name for each in (*bench.ours(), *bench.usual())]
    return {name: dict(cost) for name in names}


def test_every_measurement_runs_and_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SLICE_NS", 0)
    measurements = [*bench.ours(), *bench.usual()]
    found = bench.measure(measurements, batches=(1, 3), rounds=1)
    assert len(found) == len(measurements)
    assert all(cost > 0 for costs in found.values() for cost in costs.values())
    assert all(list(costs) == [1, 3] for costs in found.values())


def test_cost_is_the_median_per_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([1.0, 100.0, 7.0])
    monkeypatch.setattr(bench, "_microseconds", lambda _: next(costs))
    each = bench.Measurement("window", lambda _: lambda: None, frames=1.6)
    assert bench.measure([each], batches=(2,), rounds=3) == {"window": {2: 7 / 2 / 1.6}}


def test_table_has_a_row_a_measurement_and_the_gain() -> None:
    costs = dict.fromkeys(bench.BATCHES, 1.0) | {1: 4.0}
    lines = bench.rendered(table(costs)).splitlines()
    assert len(lines) == 1 + len(table(costs))
    assert all(line.endswith("0.25") for line in lines[1:])


def test_promises_are_ratios_of_the_table() -> None:
    found = table({1: 8.0, 128: 1.0})
    for rate in (8, 16):
        found[f"Silero {rate} kHz, ONNX Runtime, each"][128] = 2.0
    assert [ratio for _, ratio, _ in bench.targets(found)] == [0.125, 0.5, 0.5]


def test_without_onnx_runtime_nothing_is_compared() -> None:
    found = {k: v for k, v in table({1: 8.0, 128: 1.0}).items() if "ONNX" not in k}
    assert len(bench.targets(found)) == 1


def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_is_there", lambda module: module == "onnxruntime")
    monkeypatch.setattr(bench, "_restart_prepared", lambda: None)
    monkeypatch.setattr(bench, "measure", lambda found: {each.name: COSTS for each in found})
    bench.main()
    printed = capsys.readouterr().out
    assert bench.missing() == ["audioop", "scipy"]
    for name in bench.missing():
        assert f"{name:42} not installed\n" in printed
    assert not any(line.startswith("audioop lin2ulaw") for line in printed.splitlines())


def test_a_stateful_codec_is_measured_within_its_streams() -> None:
    """Each round is the next frame: else a new object a frame would be measured."""
    for prepare in (bench.g722_decode, bench.g722_encode):
        work = prepare(3)
        restarts = []
        for _ in range(3):
            result = work()
            assert isinstance(result, tuple)
            restarts.append(result[1])
        assert restarts == [3, 0, 0], "after the first, which finds no object"
