"""A classifier behind HTTP, by Ray Serve: raw strings in, labels and scores out.

    pip install "ray[serve]" tensorflow tensorflow-text
    python ray_serve.py --model serving/comments --replicas 2
    curl localhost:8000 -d '{"texts": ["what a lovely stream"]}'

Texts of requests that come together are answered as one batch. A new version in the directory of
the model is served as soon as it is loaded, without a pause. More requests than `in_flight` and
`queue` allow are refused at once with status 503.

On a cluster, with the directory of the model on a disk that all nodes see:

    serve run ray_serve:app model=/models/comments replicas=8
"""

import argparse
import asyncio
import contextlib
import json

import pydantic
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


class Settings(pydantic.BaseModel):
    """What `serve run` and the command line take."""

    model: str = pydantic.Field(description="directory of versions of a SavedModel")
    replicas: int = pydantic.Field(2, description="processes that answer")
    batch: int = pydantic.Field(32, description="most texts that a replica answers at a time")
    wait: float = pydantic.Field(0.002, description="seconds that a batch waits for more texts")
    in_flight: int = pydantic.Field(64, description="most requests that a replica holds")
    queue: int = pydantic.Field(64, description="most requests that wait for a replica")


@serve.deployment
class Comments:
    def __init__(self, model, batch, wait):
        import classifier  # here, so that only replicas import TensorFlow

        self.checked = classifier.checked
        self.classifier = classifier.Classifier(model)
        self.answer.set_max_batch_size(batch)
        self.answer.set_batch_wait_timeout_s(wait)

    async def __call__(self, request: Request):
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict):
                raise ValueError('the body must be an object, {"texts": […]}')
            texts = self.checked(body.get("texts"))
        except ValueError as error:  # of json and of Unicode too
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse(await asyncio.gather(*map(self.answer, texts)))

    @serve.batch
    async def answer(self, texts):
        return await asyncio.to_thread(self.classifier, texts)


def app(settings: Settings):
    """The application, for `serve run`."""
    return Comments.options(
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.in_flight,
        max_queued_requests=settings.queue,
    ).bind(settings.model, settings.batch, settings.wait)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, field in Settings.model_fields.items():
        parser.add_argument(
            f"--{name}",
            type=field.annotation,
            default=None if field.is_required() else field.default,
            required=field.is_required(),
            help=field.description,
        )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=8000, type=int)
    options = vars(parser.parse_args())
    address = {name: options.pop(name) for name in ("host", "port")}
    ray.init(include_dashboard=False, object_store_memory=2**27)
    serve.start(http_options={**address, "request_timeout_s": 30})
    with contextlib.suppress(KeyboardInterrupt):
        logging = {"enable_access_log": False}
        serve.run(app(Settings(**options)), blocking=True, logging_config=logging)


if __name__ == "__main__":
    main()
