"""Serves an artifact over HTTP: /healthz, /info and /predict.

Run: python examples/serve_http.py MODEL.h5 [--host 127.0.0.1] [--port 8000]
Try: curl --json '{"instances": [[...], [...]]}' localhost:8000/predict
Needs: pip install 'keras_squeeze[serve]'
"""

import argparse
import os
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import uvicorn
from fastapi import Body, FastAPI, HTTPException

import keras_squeeze as ks


def create_app(path):
    report = ks.verify(path)  # A damaged file stops here, before it serves.
    info = {**ks.inspect(path).totals, "intact": report.totals["ok"]}
    model = ks.load_model(path)
    shape = tuple(model.input_shape[1:])
    # The first call compiles; after it, threads may predict at the same time.
    model.predict_on_batch(np.zeros((1, *shape), "float32"))
    app = FastAPI(title="keras_squeeze")

    @app.get("/healthz")
    def healthz():
        return {"status": "ok"}

    @app.get("/info")
    def describe():
        return {**info, "input_shape": shape}

    @app.post("/predict")
    def predict(instances: Annotated[list, Body(embed=True)]):
        try:
            batch = np.asarray(instances, dtype="float32")
        except (ValueError, TypeError) as error:
            raise HTTPException(422, f"expected numbers: {error}") from error
        if batch.shape[1:] != shape or not np.isfinite(batch).all():
            message = f"expected finite instances of shape {shape}"
            raise HTTPException(422, f"{message}, received {batch.shape[1:]}")
        return {"predictions": model.predict_on_batch(batch).tolist()}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="an artifact")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    uvicorn.run(create_app(args.path), host=args.host, port=args.port)
