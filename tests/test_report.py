import subprocess
import sys
import types

import pytest

from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report, plot_schedules, plot_sparsity
from keras_squeeze.schedules import ConstantSparsity, PolynomialDecay

COLUMNS = ("layer", "weight", "sparsity", "pattern")


def report(first=0.5):
    rows = (
        {"layer": "a", "weight": "kernel", "sparsity": first, "pattern": "x"},
        {"layer": "a", "weight": "bias", "sparsity": 0.0, "pattern": None},
        {"layer": "b", "weight": "kernel", "sparsity": 0.9, "pattern": "y"},
    )
    return Report("Sequential 'm'", COLUMNS, rows)


def lines_of(figure):
    return {
        line.get_label(): list(line.get_xydata().T.tolist())
        for line in figure.axes[0].get_lines()
    }


def test_import_brings_no_matplotlib():
    code = (
        "import sys, keras_squeeze.report; "
        "print({'matplotlib', 'keras', 'rich'} & set(sys.modules))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert child.stdout.strip() == "set()", child.stderr


def test_a_bar_for_each_kernel():
    pytest.importorskip("matplotlib")
    axes = plot_sparsity(report()).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [0.5, 0.9]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a/kernel", "b/kernel"]
    assert axes.get_title() == "Sequential 'm'"


def test_a_history_is_drawn_over_the_epochs():
    pytest.importorskip("matplotlib")
    logs = {"loss": [3.0, 2.0], "sparsity": [0.1, 0.4]}
    expected = {"sparsity": [[1.0, 2.0], [0.1, 0.4]]}
    history = types.SimpleNamespace(history=logs)
    for source in (logs, history):
        figure = plot_sparsity(source)
        assert lines_of(figure) == expected
        assert figure.axes[0].get_xlabel() == "epoch"


def test_steps_are_drawn_with_a_line_for_each_layer():
    pytest.importorskip("matplotlib")
    points = [(0, report(0.0)), (100, report(0.3)), (200, {"a/kernel": 0.5})]
    assert lines_of(plot_sparsity(points)) == {
        "a/kernel": [[0, 100, 200], [0.0, 0.3, 0.5]],
        "b/kernel": [[0, 100], [0.9, 0.9]],
    }


def test_schedules_are_drawn_up_to_the_last_step():
    pytest.importorskip("matplotlib")
    ramp = PolynomialDecay(0.0, 0.8, begin_step=2, end_step=8)
    named = {"ramp": ramp, "constant": ConstantSparsity(0.5, begin_step=5)}
    lines = lines_of(plot_schedules(named, 10))
    assert lines["ramp"] == [list(range(11)), [ramp(s) for s in range(11)]]
    assert lines["constant"][1] == [0.0] * 5 + [0.5] * 6


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_equal_plots_make_equal_files(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
    plot_sparsity(report(), first)
    plot_sparsity(report(), second)
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) > 1000


@pytest.mark.parametrize("source", [{}, {"loss": [1.0]}, [], 3, None])
def test_without_sparsity_there_is_nothing_to_draw(source):
    with pytest.raises(SqueezeError, match="Received"):
        plot_sparsity(source)


def test_a_report_of_another_kind_is_refused():
    other = Report("Files", ("name",), ({"name": "a"},))
    with pytest.raises(SqueezeError, match=r"ks.summary.*'Files'"):
        plot_sparsity(other)


def test_bad_arguments(tmp_path, monkeypatch):
    with pytest.raises(SqueezeError, match="steps=0"):
        plot_schedules({"a": ConstantSparsity(0.5)}, 0)
    with pytest.raises(SqueezeError, match="0 schedules"):
        plot_schedules({}, 10)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SqueezeError, match=r"keras_squeeze\[plot\]"):
        plot_sparsity(report())


def test_an_unknown_format_is_an_error(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(SqueezeError, match="an image"):
        plot_sparsity(report(), tmp_path / "plot.unknown")
