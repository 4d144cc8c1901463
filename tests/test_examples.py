"""Every example runs as its first lines say, in a process of its own."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
STARTED_WITHIN_SECONDS = 90


def run_example(name, *arguments, folder):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run of the first example; the others serve its file."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("examples")
    path = folder / "digits.squeeze.h5"
    done = run_example("prune_quantize_export.py", path, folder=folder)
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_examples_are_short():
    lengths = {
        path.name: len(path.read_text().splitlines())
        for path in EXAMPLES.glob("*.py")
    }
    assert len(lengths) >= 3
    assert max(lengths.values()) <= 60, lengths


def test_prune_quantize_export_makes_a_small_good_file(trained):
    path, output = trained
    accuracy = re.search(r"accuracy of the reloaded file: ([\d.]+)", output)
    factor = re.search(r"([\d.]+) times smaller than float32", output)
    assert float(accuracy.group(1)) > 0.95
    assert float(factor.group(1)) > 8
    assert f"{path.stat().st_size:,} bytes" in output


def test_trusted_updates_are_small_and_equal(tmp_path):
    pytest.importorskip("cryptography")
    done = run_example("trusted_updates.py", tmp_path, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "equal: True" in done.stdout
    sizes = [(tmp_path / n).stat().st_size for n in ("v1.h5", "v2.h5.enc")]
    assert sizes[1] < 0.2 * sizes[0]
    for name, size in zip(("v1.h5", "v2.h5.enc"), sizes, strict=True):
        assert f"{name}: {size:,} bytes" in done.stdout


def test_fit_a_size_makes_files_that_fit(tmp_path):
    pytest.importorskip("sklearn")
    done = run_example("fit_a_size.py", tmp_path / "m.h5", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    line = r"([\d,]+) bytes of ([\d,]+): accuracy ([\d.]+) -> ([\d.]+)"
    found = re.findall(line, done.stdout)
    assert len(found) == 3
    for size, budget, before, after in found:
        size, budget = (int(n.replace(",", "")) for n in (size, budget))
        assert 0.97 * budget < size <= budget
        assert float(before) > 0.9
        assert float(after) > float(before) - 0.05


def test_prune_and_shrink_makes_a_smaller_network(tmp_path):
    pytest.importorskip("sklearn")
    path = tmp_path / "shrunk.h5"
    done = run_example("prune_and_shrink.py", path, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    line = r"([\d,]+) -> ([\d,]+) (parameters|bytes)"
    found = {
        unit: (int(before.replace(",", "")), int(after.replace(",", "")))
        for before, after, unit in re.findall(line, done.stdout)
    }
    assert found["parameters"][1] < 0.2 * found["parameters"][0]
    assert found["bytes"][1] < 0.25 * found["bytes"][0]
    assert found["bytes"][1] == path.stat().st_size
    accuracy = re.search(
        r"accuracy of the reloaded file: ([\d.]+)", done.stdout
    )
    assert float(accuracy.group(1)) > 0.95


def test_low_rank_fit_gets_smaller_while_it_trains(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    path, plot = tmp_path / "low_rank.h5", tmp_path / "plot.svg"
    done = run_example("low_rank_fit.py", path, plot, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = re.search(r"([\d,]+) -> ([\d,]+) parameters", done.stdout)
    before, after = (int(n.replace(",", "")) for n in found.groups())
    assert after < 0.2 * before
    accuracy = re.search(
        r"accuracy of the reloaded file: ([\d.]+)", done.stdout
    )
    assert float(accuracy.group(1)) > 0.9
    assert plot.stat().st_size > 1000


def test_readme_example_runs_as_it_is_printed(tmp_path, monkeypatch, capsys):
    import keras

    readme = (EXAMPLES.parent / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(16)])
    model.compile("adam", "mse")
    x, y = np.ones((32, 20), "float32"), np.ones((32, 16), "float32")
    monkeypatch.chdir(tmp_path)
    names = {"model": model, "x": x, "y": y}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "model.squeeze.h5").exists()
    np.testing.assert_allclose(
        names["served"].predict(x, verbose=0),
        names["small"].predict(x, verbose=0),
    )
    assert "kernel_codes" in capsys.readouterr().out
    assert len(code.strip().splitlines()) <= 12


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(trained):
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    path, port = trained[0], free_port()
    command = [sys.executable, str(EXAMPLES / "serve_http.py"), str(path)]
    log = path.with_suffix(".log")
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_healthy(process, port, log)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_healthy(process, port, log):
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            assert call(port, "/healthz") == (200, {"status": "ok"})
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start: {log.read_text()}")


def call(port, path, body=None):
    """Status and JSON of a request; `body` is bytes or JSON-ready."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=body,
        headers={"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_server_predicts_like_the_file(server, trained):
    import keras_squeeze as ks

    images = np.random.default_rng(1).random((5, 8, 8, 1), dtype="float32")
    status, answer = call(server, "/predict", {"instances": images.tolist()})
    assert status == 200
    expected = ks.load_model(trained[0]).predict(images, verbose=0)
    found = np.asarray(answer["predictions"], "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_server_tells_what_it_serves(server, trained):
    import keras_squeeze as ks

    status, info = call(server, "/info")
    assert status == 200
    assert info["digest"] == ks.inspect(trained[0]).totals["digest"]
    assert info["file_bytes"] == trained[0].stat().st_size
    assert info["input_shape"] == [8, 8, 1]


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"instances": 3}',
        b'{"instances": []}',
        b'{"instances": [1, 2]}',
        b'{"instances": [[1], [2, 3]]}',
        b'{"instances": ["text"]}',
        b'{"instances": [null]}',
        json.dumps({"instances": [[[["x"]] * 8] * 8]}).encode(),
        json.dumps({"instances": [[[[float("nan")]] * 8] * 8]}).encode(),
    ],
)
def test_server_answers_bad_input_with_a_message(server, body):
    status, answer = call(server, "/predict", body)
    assert 400 <= status < 500
    assert answer["detail"]
    assert call(server, "/healthz")[0] == 200


def test_server_does_not_start_on_a_damaged_file(trained, tmp_path):
    pytest.importorskip("fastapi")
    content = bytearray(trained[0].read_bytes())
    content[len(content) // 2] ^= 1
    bad = tmp_path / "bad.h5"
    bad.write_bytes(content)
    done = run_example("serve_http.py", bad, folder=tmp_path)
    assert done.returncode == 1
    assert "CorruptArtifactError" in done.stderr


def test_savedmodel_answers_like_the_file(trained, tmp_path):
    folder = tmp_path / "exported"
    done = run_example(
        "serve_savedmodel.py", trained[0], folder, folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout
    assert (folder / "saved_model.pb").exists()
