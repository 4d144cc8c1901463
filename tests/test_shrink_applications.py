"""The proof on a network that Keras ships; benchmarks/ has all of them."""

import keras

from tests.shrink_models import prove


def test_mobilenet_computes_what_its_masked_copy_does():
    model = keras.applications.MobileNet(
        input_shape=(32, 32, 3),
        alpha=0.25,
        weights=None,
        classes=5,
        classifier_activation=None,
    )
    _, report, _ = prove(model)
    totals = report.totals
    share = totals["parameters_after"] / totals["parameters_before"]
    assert 0.45 < share < 0.55
