"""What a user trains and calls."""

from lingxi.tasks.text_classifier import Classification, TextClassifier

__all__ = ["Classification", "TextClassifier"]
