"""A classifier behind HTTP, by BentoML: raw strings in, labels and scores out.

    pip install bentoml tensorflow tensorflow-text
    MODEL=serving/comments REPLICAS=2 bentoml serve bentoml_service:Comments
    curl localhost:3000/classify --json '{"texts": ["what a lovely stream"]}'

Texts of requests that come together are answered as one batch. A new version in the directory of
the model is served as soon as it is loaded, without a pause. More requests at a time than
IN_FLIGHT are refused at once with status 429; one that would wait longer than 5 seconds, with 503.
"""

import os
from typing import Annotated, Any

import bentoml
import pydantic
from classifier import MAX_TEXTS, Classifier, checked

Texts = Annotated[list[str], pydantic.AfterValidator(checked)]


@bentoml.service(
    workers=int(os.environ.get("REPLICAS", 2)),
    traffic={"timeout": 30, "max_concurrency": int(os.environ.get("IN_FLIGHT", 128))},
)
class Comments:
    def __init__(self):
        self.classifier = Classifier(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=MAX_TEXTS, max_latency_ms=5000)
    def classify(self, texts: Texts) -> list[dict[str, Any]]:
        return self.classifier(texts)
