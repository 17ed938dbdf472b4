"""Layers of a model that do something else for a while."""

import contextlib
import functools

import keras


@contextlib.contextmanager
def intercepted(layer, run):
    """Within this context `layer(…)` is `run(call, …)`, where `call` is what it is otherwise.

    What is traced here keeps it: have functions that outlive the context traced anew.
    """
    call = layer.call
    layer.call = lambda *args, **kwargs: run(call, *args, **kwargs)
    try:
        yield
    finally:
        del layer.call


def forget_graphs(model):
    """Have all functions of a model, and of the models in it, traced anew."""
    for part in model._flatten_layers():
        if isinstance(part, keras.Model):
            kinds = {name: getattr(type(part), name, None) for name in vars(part)}
            for name, kind in kinds.items():
                if isinstance(kind, functools.cached_property):
                    del vars(part)[name]
            part.train_function = part.test_function = part.predict_function = None
