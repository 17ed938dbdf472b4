"""What a user trains and calls."""

from lingxi.tasks.generation import Generation
from lingxi.tasks.loading import load
from lingxi.tasks.masked_language_model import Filling, MaskedLanguageModel
from lingxi.tasks.prompting import Dialogue, few_shot
from lingxi.tasks.question_answerer import Answer, QuestionAnswerer
from lingxi.tasks.retrieval import Hit
from lingxi.tasks.summarizer import Summarizer
from lingxi.tasks.task import Task
from lingxi.tasks.text_classifier import Classification, TextClassifier
from lingxi.tasks.text_embedder import TextEmbedder
from lingxi.tasks.text_generator import Choice, Score, TextGenerator
from lingxi.tasks.text_regressor import TextRegressor
from lingxi.tasks.token_classifier import Entity, TokenClassifier
from lingxi.tasks.translator import Translator

__all__ = [
    "Answer",
    "Choice",
    "Classification",
    "Dialogue",
    "Entity",
    "Filling",
    "Generation",
    "Hit",
    "MaskedLanguageModel",
    "QuestionAnswerer",
    "Score",
    "Summarizer",
    "Task",
    "TextClassifier",
    "TextEmbedder",
    "TextGenerator",
    "TextRegressor",
    "TokenClassifier",
    "Translator",
    "few_shot",
    "load",
]
