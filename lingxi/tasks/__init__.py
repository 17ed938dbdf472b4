"""What a user trains and calls."""

from lingxi.tasks.generation import Generation
from lingxi.tasks.prompting import Dialogue, few_shot
from lingxi.tasks.summarizer import Summarizer
from lingxi.tasks.task import Task
from lingxi.tasks.text_classifier import Classification, TextClassifier
from lingxi.tasks.text_generator import Choice, Score, TextGenerator
from lingxi.tasks.translator import Translator

__all__ = [
    "Choice",
    "Classification",
    "Dialogue",
    "Generation",
    "Score",
    "Summarizer",
    "Task",
    "TextClassifier",
    "TextGenerator",
    "Translator",
    "few_shot",
]
