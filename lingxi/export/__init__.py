"""From a trained task to artifacts that take raw text, each proven equal to its task."""

from lingxi.export.artifact import load
from lingxi.export.huggingface import huggingface
from lingxi.export.saved_model import saved_model
from lingxi.export.tflite import tflite
from lingxi.export.verification import Report, VerificationError, verify

__all__ = [
    "Report",
    "VerificationError",
    "huggingface",
    "load",
    "saved_model",
    "tflite",
    "verify",
]
